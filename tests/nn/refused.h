/* Constructors that fail. */
#ifndef FLODL_TESTS_NN_REFUSED_H
#define FLODL_TESTS_NN_REFUSED_H

#include "check.h"

/* A constructor that fails leaves no handle behind and names what was wrong. */
#define REFUSED(call, ...)                           \
    do {                                             \
        int64_t live_ = fdl_live_tensors();          \
        assert_null(call);                           \
        check_error(FDL_E_ARG, __VA_ARGS__);         \
        assert_int_equal(fdl_live_tensors(), live_); \
    } while (0)

#endif
