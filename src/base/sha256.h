/* SHA-256 in pieces. */
#ifndef FLODL_BASE_SHA256_H
#define FLODL_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    unsigned char block[64];
} sha256;

void sha256_start(sha256 *h);
void sha256_add(sha256 *h, const void *data, size_t n);
/* 64 lowercase hexadecimal digits and a zero. h is used up. */
void sha256_hex(sha256 *h, char hex[65]);

#endif
