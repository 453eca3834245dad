/* The characters of a text and their numbers. */
#include "flodl/vocab.h"

#include "flodl/text.h"

enum { CODES = 0x110000 }; /* code points that there are */

struct fdl_vocab {
    int64_t size;
    uint32_t code[]; /* [size], rising */
};

/* The character at byte `at`, which moves behind it; false, noted, where there is none. */
static bool next_code(const char *function, const char *text, size_t n, size_t *at, uint32_t *code)
{
    int size = fdl_utf8_decode(text + *at, n - *at, code);
    if (!size)
        fdl_fail(FDL_E_FORMAT, "%s: byte %zu of the text (0x%02x) begins no UTF-8 character", function, *at,
                 (unsigned char)text[*at]);
    *at += (size_t)size;
    return size != 0;
}

/* Marks in seen [CODES / 8 bytes] what occurs; the number of different characters, or -1. */
static int64_t mark(const char *text, size_t n, unsigned char *seen)
{
    int64_t count = 0;
    for (size_t at = 0; at < n;) {
        uint32_t code;
        if (!next_code("fdl_vocab_chars", text, n, &at, &code))
            return -1;
        unsigned char bit = (unsigned char)(1u << (code & 7));
        count += !(seen[code >> 3] & bit);
        seen[code >> 3] |= bit;
    }
    return count;
}

fdl_vocab *fdl_vocab_chars(const char *text, size_t n)
{
    if (!text) {
        fdl_null_operand("fdl_vocab_chars", "text");
        return NULL;
    }
    if (n == 0)
        return fdl_fail_null(FDL_E_ARG, "fdl_vocab_chars: the text is empty; it must have the characters");
    unsigned char *seen = calloc(CODES / 8, 1);
    int64_t count = seen ? mark(text, n, seen) : 0;
    fdl_vocab *v = count > 0 ? malloc(sizeof *v + (size_t)count * sizeof *v->code) : NULL;
    if (v) {
        v->size = 0;
        for (uint32_t code = 0; code < CODES; code++)
            if (seen[code >> 3] >> (code & 7) & 1)
                v->code[v->size++] = code;
    } else if (count >= 0) {
        fdl_fail(FDL_E_OOM, "fdl_vocab_chars: no memory");
    }
    free(seen);
    return v;
}

void fdl_vocab_free(fdl_vocab *v)
{
    free(v);
}

int64_t fdl_vocab_size(const fdl_vocab *v)
{
    if (!v)
        fdl_null_operand("fdl_vocab_size", "v");
    return v ? v->size : -1;
}

/* Its number; -1: it isn't there. */
static int64_t number_of(const fdl_vocab *v, uint32_t code)
{
    int64_t low = 0, high = v->size;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (v->code[middle] < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->size && v->code[low] == code ? low : -1;
}

/* The numbers to out (NULL: none are written); how many, or -1. */
static int64_t encode(const fdl_vocab *v, const char *text, size_t n, int64_t *out)
{
    int64_t count = 0;
    for (size_t at = 0; at < n; count++) {
        size_t begin = at;
        uint32_t code;
        if (!next_code("fdl_vocab_encode", text, n, &at, &code))
            return -1;
        int64_t number = number_of(v, code);
        if (number < 0) {
            fdl_fail(FDL_E_ARG,
                     "fdl_vocab_encode: character U+%04X at byte %zu is none of the %lld of the vocabulary",
                     (unsigned)code, begin, (long long)v->size);
            return -1;
        }
        if (out)
            out[count] = number;
    }
    return count;
}

fdl_tensor *fdl_vocab_encode(const fdl_vocab *v, const char *text, size_t n)
{
    if (!v || !text) {
        fdl_null_operand("fdl_vocab_encode", v ? "text" : "v");
        return NULL;
    }
    int64_t count = encode(v, text, n, NULL);
    if (count < 0)
        return NULL;
    fdl_tensor *ids = fdl_empty(FDL_SHAPE(count), .dtype = FDL_INT64, .device = FDL_CPU);
    if (ids && count)
        encode(v, text, n, fdl_data_ptr(ids));
    return ids;
}

char *fdl_vocab_decode(const fdl_vocab *v, fdl_tensor *ids)
{
    if (!v || !ids) {
        fdl_null_operand("fdl_vocab_decode", v ? "ids" : "v");
        return NULL;
    }
    int64_t n = fdl_numel(ids);
    fdl_dtype dtype = fdl_dtype_of(ids);
    if (n < 0)
        return NULL;
    if (fdl_dtype_is_floating(dtype))
        return fdl_fail_null(FDL_E_DTYPE, "fdl_vocab_decode: ids are %s, must be whole numbers",
                             fdl_dtype_name(dtype));
    int64_t *number = n < INT64_MAX / 16 ? malloc((size_t)n * sizeof *number + 1) : NULL;
    char *text = number ? fdl_scope_alloc((size_t)n * 4 + 1) : NULL, *end = text;
    if (!number)
        fdl_fail(FDL_E_OOM, "fdl_vocab_decode: no memory for %lld characters", (long long)n);
    if (text && fdl_to_i64(ids, number, n) != FDL_OK)
        text = NULL;
    for (int64_t i = 0; text && i < n; i++) {
        bool known = number[i] >= 0 && number[i] < v->size;
        end += fdl_utf8_encode(known ? v->code[number[i]] : '?', end);
    }
    free(number);
    return text;
}
