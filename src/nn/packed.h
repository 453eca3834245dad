/* What a packed sequence is made of. */
#ifndef FLODL_NN_PACKED_H
#define FLODL_NN_PACKED_H

#include "flodl/packed.h"

struct fdl_packed {
    fdl_tensor *data;        /* [S, *] */
    fdl_tensor *batch_sizes; /* int64 [longest length], CPU */
    fdl_tensor *
        sorted; /* int64 [N], on data's device: the number of each sequence, longest first; NULL: they were so */
    fdl_tensor *unsorted; /* the way back */
};

#endif
