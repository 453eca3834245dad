/* Where a benchmark ran: what its raw figures need to mean anything later. */
#ifndef BENCHMARKS_MACHINE_H
#define BENCHMARKS_MACHINE_H

#include "json.h"

typedef struct machine {
    char device[128]; /* of the GPU, or of the CPU */
    char cpu[128], os[128], kernel[128], driver[48], compiler[96], build[32];
    char libtorch[32], commit[64], date[32]; /* "": not known */
    int cores;
    int64_t memory, gpu_memory; /* bytes */
} machine;

/* Of this moment; on_gpu: device 0. */
void machine_read(machine *m, bool on_gpu);

/* The object that each raw file begins with: {"format": 1, "benchmark": name, "machine": {...}, ...; it stays open. */
void machine_begin_json(json *j, const char *benchmark, const machine *m);

/* A line. */
void machine_print(const machine *m, const char *benchmark);

#endif
