/* Sequences of several lengths: packed, and padded again. */
#include "packed.h"

#include "flodl/index.h"
#include "flodl/recurrent.h"
#include "flodl/shape.h"

static fdl_packed *new_packed(const fdl_packed *p)
{
    fdl_packed *made = p->data ? fdl_scope_alloc(sizeof *made) : NULL;
    if (made)
        *made = *p;
    return made;
}

fdl_packed *fdl_pack_padded_opt(fdl_tensor *x, fdl_tensor *lengths, const fdl_pack_padded_opts *opts)
{
    const fdl_pack_padded_opts o = opts ? *opts : (fdl_pack_padded_opts){0};
    if (!x || !lengths) {
        fdl_null_operand("fdl_pack_padded", x ? "lengths" : "x");
        return NULL;
    }
    fdl_packed p = {0};
    {
        FDL_SCOPE;
        fdl_tensor *sizes = NULL;
        if (o.unsorted) {
            fdl_tensor *order = fdl_argsort(lengths, 0, .descending = true);
            lengths = fdl_index_select(lengths, 0, order);
            p.sorted = fdl_to_device(order, fdl_device_of(x));
            p.unsorted = fdl_to_device(fdl_argsort(order, 0), fdl_device_of(x));
            x = fdl_index_select(x, o.batch_first ? 0 : 1, p.sorted);
        }
        p.data = fdl_pack_steps(x, lengths, .batch_first = o.batch_first, .batch_sizes = &sizes);
        p.data = fdl_escape(p.data);
        p.batch_sizes = fdl_escape(sizes);
        p.sorted = fdl_escape(p.sorted);
        p.unsorted = fdl_escape(p.unsorted);
    }
    return new_packed(&p);
}

fdl_tensor *fdl_pad_packed_opt(const fdl_packed *p, const fdl_pad_packed_opts *opts)
{
    const fdl_pad_packed_opts o = opts ? *opts : (fdl_pad_packed_opts){0};
    if (o.lengths)
        *o.lengths = NULL;
    if (!p) {
        fdl_null_operand("fdl_pad_packed", "p");
        return NULL;
    }
    FDL_SCOPE;
    fdl_tensor *lengths = NULL;
    fdl_tensor *x = fdl_unpack_steps(p->data, p->batch_sizes, .batch_first = o.batch_first, .value = o.value,
                                     .total_length = o.total_length, .lengths = &lengths);
    if (x && p->unsorted) {
        x = fdl_index_select(x, o.batch_first ? 0 : 1, p->unsorted);
        lengths = fdl_index_select(lengths, 0, fdl_to_device(p->unsorted, FDL_CPU));
    }
    if (o.lengths && x)
        *o.lengths = fdl_escape(lengths);
    FDL_RETURN(x);
}

fdl_packed *fdl_pack_sequence_opt(fdl_list xs, const fdl_pack_sequence_opts *opts)
{
    fdl_packed p = {0};
    {
        FDL_SCOPE;
        fdl_tensor *x = fdl_pad_sequence(xs);
        int64_t *n = x ? fdl_scope_alloc(sizeof *n * (size_t)xs.n) : NULL;
        for (int i = 0; n && i < xs.n; i++)
            n[i] = fdl_size(xs.at[i], 0);
        fdl_tensor *lengths = n ? fdl_from_i64(n, FDL_SHAPE(xs.n), .device = FDL_CPU) : NULL;
        const fdl_packed *made = fdl_pack_padded(x, lengths, .unsorted = opts && opts->unsorted);
        if (made)
            p = (fdl_packed){fdl_escape(made->data), fdl_escape(made->batch_sizes), fdl_escape(made->sorted),
                             fdl_escape(made->unsorted)};
    }
    return new_packed(&p);
}

fdl_list fdl_unpack_sequence(const fdl_packed *p)
{
    if (!p) {
        fdl_null_operand(__func__, "p");
        return (fdl_list){0, NULL};
    }
    FDL_SCOPE;
    fdl_tensor *lengths = NULL, *x = fdl_pad_packed(p, .batch_first = true, .lengths = &lengths);
    int64_t n = x ? fdl_size(x, 0) : 0;
    fdl_list all = {(int)n, x ? fdl_scope_alloc(sizeof *all.at * (size_t)n) : NULL};
    int64_t *at = all.at ? fdl_scope_alloc(sizeof *at * (size_t)n) : NULL;
    if (!at || fdl_to_i64(lengths, at, n) != FDL_OK)
        return (fdl_list){0, NULL};
    for (int i = 0; i < n; i++)
        if (!(all.at[i] = fdl_narrow(fdl_select(x, 0, i), 0, 0, at[i])))
            return (fdl_list){0, NULL};
    FDL_RETURN_LIST(all);
}

fdl_packed *fdl_packed_with(const fdl_packed *p, fdl_tensor *data)
{
    if (!p || !data) {
        fdl_null_operand(__func__, p ? "data" : "p");
        return NULL;
    }
    int64_t steps = fdl_size(p->data, 0);
    if (fdl_ndim(data) < 1 || fdl_size(data, 0) != steps) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE, "fdl_packed_with: data is %s, must have %lld steps",
                             fdl_describe(data, text, sizeof text), (long long)steps);
    }
    fdl_packed other = *p;
    other.data = data;
    return new_packed(&other);
}

fdl_tensor *fdl_packed_data(const fdl_packed *p)
{
    if (!p)
        fdl_null_operand(__func__, "p");
    return p ? p->data : NULL;
}

fdl_tensor *fdl_packed_batch_sizes(const fdl_packed *p)
{
    if (!p)
        fdl_null_operand(__func__, "p");
    return p ? p->batch_sizes : NULL;
}

fdl_tensor *fdl_packed_order(const fdl_packed *p)
{
    if (!p)
        fdl_null_operand(__func__, "p");
    return p ? p->sorted : NULL;
}
