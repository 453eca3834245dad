/* Loaders: how many batches, which samples, names, scopes, epochs, errors; on a GPU too where there is one.
 */
#include "check.h"

#include "samples.h"

/* Position 0 of sample i is i, position 1 (int64) is 10 i. */
static fdl_dataset *pairs(int64_t n)
{
    FDL_SCOPE;
    return fdl_data_tensors(
        FDL_LIST(fdl_arange(0, (double)n, 1), fdl_arange(0, 10.0 * (double)n, 10, .dtype = FDL_INT64)));
}

/* The samples of an epoch in order; checks each batch's size, and both positions. Returns how many. */
static int64_t collect(fdl_loader *dl, int64_t epoch, int64_t *out, int *batches)
{
    int64_t n = 0, size = fdl_data_loader_batch_size(dl);
    *batches = 0;
    fdl_iter *it = fdl_data_epoch(dl, epoch);
    check_some(it);
    assert_int_equal(fdl_data_left(it), fdl_data_loader_batches(dl));
    for (;;) {
        FDL_SCOPE;
        fdl_batch *b = fdl_data_next(it);
        if (!b)
            break;
        int64_t rows = fdl_data_rows(b);
        assert_true(rows == size || (rows > 0 && rows < size && fdl_data_left(it) == 0));
        double x[256], y[256];
        check_ok(fdl_to_f64(fdl_data_at(b, 0), x, rows));
        check_ok(fdl_to_f64(fdl_data_at(b, 1), y, rows));
        for (int64_t i = 0; i < rows; i++) {
            assert_true(y[i] == 10 * x[i] && x[i] == (double)fdl_data_indices(b)[i]);
            out[n++] = (int64_t)x[i];
        }
        ++*batches;
        assert_int_equal(fdl_data_left(it), fdl_data_loader_batches(dl) - *batches);
    }
    check_ok(fdl_data_status(dl));
    assert_null(fdl_data_next(it)); /* the end stays the end */
    fdl_data_epoch_end(it);
    return n;
}

static void arithmetic(void **state)
{
    (void)state;
    static const struct {
        int64_t n, size;
        bool keep;
        int batches;
        int64_t samples;
    } rows[] = {
        {20, 5, false, 4, 20},    {22, 5, false, 4, 20},     {22, 5, true, 5, 22}, {23, 5, false, 4, 20},
        {23, 5, true, 5, 23},     {5, 100, false, 0, 0},     {5, 100, true, 1, 5}, {1, 1, false, 1, 1},
        {100, 10, true, 10, 100}, {105, 10, false, 10, 100},
    };
    int64_t seen[256];
    int batches;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        fdl_loader *dl = fdl_data_loader(pairs(rows[r].n), rows[r].size, .keep_last = rows[r].keep);
        check_some(dl);
        assert_int_equal(fdl_data_loader_batches(dl), rows[r].batches);
        assert_int_equal(collect(dl, 0, seen, &batches), rows[r].samples);
        assert_int_equal(batches, rows[r].batches);
        fdl_data_loader_free(dl);
    }
}

static void asking(void **state)
{
    (void)state;
    fdl_loader *dl = fdl_data_loader(pairs(50), 8);
    check_some(dl);
    assert_int_equal(fdl_data_loader_len(dl), 50);
    assert_int_equal(fdl_data_loader_batches(dl), 6);
    assert_int_equal(fdl_data_loader_batch_size(dl), 8);
    assert_int_equal(fdl_data_loader_arity(dl), 2);
    assert_int_equal(fdl_data_loader_sample_bytes(dl), 12);
    assert_true(fdl_device_eq(fdl_data_loader_device(dl), FDL_CPU));
    assert_string_equal(fdl_data_loader_name(dl, 1), "1");
    assert_null(fdl_data_loader_name(dl, 2));
    check_error(FDL_E_RANGE, "position 2");
    fdl_data_loader_free(dl);
    fdl_data_loader_free(NULL);
    assert_true(fdl_data_loader_len(NULL) == -1 && fdl_data_loader_batches(NULL) == -1 &&
                fdl_data_loader_batch_size(NULL) == -1 && fdl_data_loader_arity(NULL) == -1 &&
                fdl_data_loader_sample_bytes(NULL) == -1 && fdl_data_loader_device(NULL).type == 0);
    check_error(FDL_E_NULL, "dl");
    assert_null(fdl_data_loader_name(NULL, 0));
    check_error(FDL_E_NULL, "dl");
}

static void each_sample_once(void **state)
{
    (void)state;
    fdl_loader *dl = fdl_data_loader(pairs(23), 5, .keep_last = true, .seed = FDL_SOME(0));
    check_some(dl);
    int64_t seen[2][23], counts[23] = {0};
    int batches;
    for (int e = 0; e < 2; e++) {
        assert_int_equal(collect(dl, e, seen[e], &batches), 23);
        for (int i = 0; i < 23; i++)
            counts[seen[e][i]]++;
    }
    for (int i = 0; i < 23; i++)
        assert_int_equal(counts[i], 2);
    assert_memory_not_equal(seen[0], seen[1], sizeof seen[0]);
    int64_t again[23];
    collect(dl, 1, again, &batches); /* an epoch is a function of its number */
    assert_memory_equal(seen[1], again, sizeof again);
    fdl_sampler *s = fdl_data_sampler_random(23, 0);
    check_some(s);
    check_ok(fdl_data_sampler_order(s, 1, again));
    assert_memory_equal(seen[1], again, sizeof again);
    fdl_data_sampler_free(s);
    fdl_data_loader_free(dl);

    dl = fdl_data_loader(pairs(10), 10); /* seed 42 */
    collect(dl, 0, again, &batches);
    assert_memory_equal(again, ((int64_t[]){3, 1, 8, 6, 5, 0, 4, 9, 7, 2}), 10 * sizeof *again);
    fdl_data_loader_free(dl);
}

static void in_order(void **state)
{
    (void)state;
    for (int writable = 0; writable < 2; writable++) {
        fdl_loader *dl = fdl_data_loader(pairs(12), 4, .in_order = true, .writable = writable);
        check_some(dl);
        for (int e = 0; e < 2; e++) {
            int64_t seen[12];
            int batches;
            assert_int_equal(collect(dl, e, seen, &batches), 12);
            assert_int_equal(batches, 3);
            for (int i = 0; i < 12; i++)
                assert_int_equal(seen[i], i);
        }
        fdl_data_loader_free(dl);
    }
    fdl_loader *dl = fdl_data_eval_loader(pairs(7), 4);
    check_some(dl);
    int64_t seen[7];
    int batches;
    assert_int_equal(collect(dl, 3, seen, &batches), 7);
    assert_int_equal(batches, 2);
    for (int i = 0; i < 7; i++)
        assert_int_equal(seen[i], i);
    fdl_data_loader_free(dl);
}

/* A dataset whose items are fetched is the same as one of tensors. */
static fdl_status pair(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)n;
    if (ctx && i == *(int64_t *)ctx)
        return fdl_fail(FDL_E_NET, "no line");
    out[0] = fdl_scalar((double)i);
    out[1] = fdl_scalar(10.0 * (double)i, .dtype = FDL_INT64);
    return FDL_OK;
}

static void fetched(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors(), seen[2][40];
    int batches;
    fdl_loader *a = fdl_data_loader(pairs(40), 7), *b = fdl_data_loader(fdl_data_fn(40, 2, pair, NULL), 7);
    check_some(a);
    check_some(b);
    assert_int_equal(collect(a, 2, seen[0], &batches), 35);
    assert_int_equal(collect(b, 2, seen[1], &batches), 35);
    assert_memory_equal(seen[0], seen[1], 35 * sizeof **seen);
    fdl_data_loader_free(a);
    fdl_data_loader_free(b);
    int64_t bad = 33;
    assert_null(fdl_data_loader(fdl_data_fn(40, 2, pair, &bad), 7));
    check_error(FDL_E_NET, "fdl_data_loader: sample 33: no line");
    bad = 0;
    assert_null(fdl_data_loader(fdl_data_fn(40, 2, pair, &bad), 7));
    check_error(FDL_E_NET, "sample 0");
    assert_int_equal(fdl_live_tensors(), before);
}

/* ---- samplers --------------------------------------------------------------------------------------- */

static int freed;
static int64_t three(void *self)
{
    (void)self;
    return 3;
}
static fdl_status some(void *self, int64_t epoch, int64_t *out)
{
    out[0] = 7;
    out[1] = epoch == 1 ? *(int64_t *)self : 2;
    out[2] = 7;
    return epoch == 2 ? FDL_E_CANCELLED : FDL_OK;
}
static void count_free(void *self)
{
    (void)self;
    freed++;
}

static void samplers(void **state)
{
    (void)state;
    int64_t bad = 10, seen[3];
    int batches;
    freed = 0;
    fdl_loader *dl =
        fdl_data_loader(pairs(10), 2, .keep_last = true,
                        .sampler = fdl_data_sampler_new(&(fdl_sampler_vtab){three, some, count_free}, &bad));
    check_some(dl);
    assert_int_equal(fdl_data_loader_len(dl), 3);
    assert_int_equal(collect(dl, 0, seen, &batches), 3);
    assert_memory_equal(seen, ((int64_t[]){7, 2, 7}), sizeof seen);
    for (bad = 10; bad >= -1; bad -= 11) {
        assert_null(fdl_data_epoch(dl, 1));
        assert_int_equal(fdl_data_status(dl), FDL_E_RANGE);
        check_error(FDL_E_RANGE, "epoch 1", bad < 0 ? "index -1" : "index 10", "position 1", "10 samples");
    }
    assert_null(fdl_data_epoch(dl, 2));
    assert_int_equal(fdl_data_status(dl), FDL_E_CANCELLED);
    check_error(FDL_E_CANCELLED, "epoch 2");
    int runs = 0;
    FDL_BATCHES(b, dl, 2)
    runs++;
    assert_int_equal(runs, 0);
    assert_int_equal(fdl_data_status(dl), FDL_E_CANCELLED);
    check_error(FDL_E_CANCELLED, "epoch 2");
    assert_int_equal(collect(dl, 3, seen, &batches), 3); /* an error spoils its own epoch only */
    fdl_data_loader_free(dl);
    assert_int_equal(freed, 1);
    assert_null(fdl_data_loader(
        NULL, 2, .sampler = fdl_data_sampler_new(&(fdl_sampler_vtab){three, some, count_free}, &bad)));
    check_error(FDL_E_NULL, "ds");
    assert_null(fdl_data_eval_loader(
        pairs(3), 2, .sampler = fdl_data_sampler_new(&(fdl_sampler_vtab){three, some, count_free}, &bad)));
    check_error(FDL_E_ARG, "sampler");
    assert_int_equal(freed, 3);
}

/* ---- refusals ----------------------------------------------------------------------------------------- */

static int64_t len_of(void *self)
{
    return *(int64_t *)self;
}
static fdl_status zeros(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n)
{
    (void)self;
    (void)idx;
    for (int p = 0; p < n; p++)
        out[p] = fdl_zeros(FDL_SHAPE(k));
    return FDL_OK;
}
static fdl_dataset *counted(int64_t *n)
{
    return fdl_data_new(&(fdl_data_vtab){.len = len_of, .batch = zeros, .free = count_free, .arity = 2}, n);
}

static void refusals(void **state)
{
    (void)state;
    int64_t none = 0, ten = 10;
    freed = 0;
    assert_null(fdl_data_loader(counted(&none), 4));
    check_error(FDL_E_ARG, "empty");
    assert_null(fdl_data_loader(counted(&ten), 0));
    check_error(FDL_E_ARG, "batch_size is 0");
    assert_null(fdl_data_loader(counted(&ten), -1));
    check_error(FDL_E_ARG, "batch_size is -1");
    assert_null(fdl_data_loader(counted(&ten), 4, .names = FDL_NAMES("image")));
    check_error(FDL_E_ARG, "1 names", "2 tensors");
    assert_null(fdl_data_loader(counted(&ten), 4, .names = FDL_NAMES("a", "b", "c")));
    check_error(FDL_E_ARG, "3 names");
    assert_null(fdl_data_loader(counted(&ten), 4, .names = FDL_NAMES("a", "a")));
    check_error(FDL_E_ARG, "both", "\"a\"");
    assert_null(fdl_data_loader(counted(&ten), 4, .names = FDL_NAMES("a", "")));
    check_error(FDL_E_ARG, "position 1", "empty");
    assert_null(fdl_data_loader(counted(&ten), 4, .device = FDL_CUDA(99)));
    check_error(FDL_E_DEVICE, "cuda:99");
    assert_int_equal(freed, 8);
    assert_null(fdl_data_loader(fdl_data_tensors(FDL_LIST(NULL)), 4)); /* NULL passes through */
    check_error(FDL_E_NULL, "fdl_data_tensors");
    fdl_loader *dl = fdl_data_loader(counted(&ten), 4);
    check_some(dl);
    assert_null(fdl_data_epoch(dl, -1));
    assert_int_equal(fdl_data_status(dl), FDL_E_ARG);
    check_error(FDL_E_ARG, "-1");
    assert_null(fdl_data_epoch(dl, 0, .skip = 3));
    check_error(FDL_E_ARG, "skip is 3", "2 batches");
    assert_null(fdl_data_epoch(NULL, 0));
    check_error(FDL_E_NULL, "dl");
    assert_null(fdl_data_next(NULL));
    check_error(FDL_E_NULL, "it");
    assert_int_equal(fdl_data_left(NULL), -1);
    check_error(FDL_E_NULL, "it");
    fdl_data_epoch_end(NULL);
    assert_int_equal(fdl_data_status(NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "dl");
    fdl_data_loader_free(dl);
    assert_int_equal(freed, 9);
}

static fdl_status huge(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n)
{
    (void)self;
    (void)idx;
    (void)n;
    out[0] = fdl_zeros(FDL_SHAPE(k, 1 << 20), .dtype = FDL_UINT8);
    return FDL_OK;
}

static void too_large(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    for (int64_t n = INT64_C(1) << 26; n > 0;
         n = n < INT64_C(1) << 50 ? INT64_C(1) << 60 : 0) { /* 64 TiB, 2^80 bytes */
        fdl_dataset *ds = fdl_data_new(&(fdl_data_vtab){.len = len_of, .batch = huge, .arity = 1}, &n);
        assert_null(fdl_data_loader(fdl_data_ref(ds), 4, .sampler = fdl_data_sampler_sequential(5),
                                    .mode = FDL_DATA_RESIDENT));
        check_error(FDL_E_OOM, "fdl_data_loader");
        fdl_loader *dl = fdl_data_loader(ds, 4, .sampler = fdl_data_sampler_sequential(5));
        check_some(dl); /* streams */
        assert_int_equal(fdl_data_loader_mode(dl), FDL_DATA_STREAM);
        FDL_BATCHES(b, dl, 0)
        assert_int_equal(fdl_size(fdl_data_at(b, 0), 1), 1 << 20);
        check_ok(fdl_data_status(dl));
        fdl_data_loader_free(dl);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

/* ---- batches ------------------------------------------------------------------------------------------ */

static void names(void **state)
{
    (void)state;
    fdl_loader *dl = fdl_data_loader(pairs(10), 4, .names = FDL_NAMES("image", "label"));
    check_some(dl);
    FDL_BATCHES(b, dl, 0)
    {
        assert_true(fdl_data_has(b, "label") && !fdl_data_has(b, "labels") && !fdl_data_has(b, "0"));
        assert_false(fdl_data_has(NULL, "label") || fdl_data_has(b, NULL));
        assert_ptr_equal(fdl_data_named(b, "label"), fdl_data_at(b, 1));
        assert_string_equal(fdl_data_name_at(b, 0), "image");
        assert_int_equal(fdl_data_arity_of(b), 2);
        fdl_list all = fdl_data_list(b);
        assert_true(all.n == 2 && all.at[0] == fdl_data_at(b, 0) && all.at[1] == fdl_data_at(b, 1));
        assert_null(fdl_data_named(b, "lable"));
        check_error(FDL_E_ARG, "\"lable\"", "image, label", "did you mean \"label\"");
        assert_null(fdl_data_named(b, "weights"));
        assert_null(strstr(fdl_last_error()->message, "did you mean"));
        check_error(FDL_E_ARG, "image, label");
        assert_null(fdl_data_at(b, 2));
        check_error(FDL_E_RANGE, "position 2", "2");
        assert_null(fdl_data_at(b, -1));
        check_error(FDL_E_RANGE, "position -1");
        assert_null(fdl_data_name_at(b, 2));
        check_error(FDL_E_RANGE, "position 2");
    }
    check_ok(fdl_data_status(dl));
    fdl_data_loader_free(dl);
    assert_null(fdl_data_at(NULL, 0));
    check_error(FDL_E_NULL, "b is NULL");
    assert_null(fdl_data_named(NULL, "x"));
    check_error(FDL_E_NULL, "b is NULL");
    assert_null(fdl_data_list(NULL).at);
    check_error(FDL_E_NULL, "b is NULL");
    assert_true(fdl_data_rows(NULL) == -1 && fdl_data_arity_of(NULL) == -1);
    check_error(FDL_E_NULL, "b is NULL");
    assert_null(fdl_data_indices(NULL));
    check_error(FDL_E_NULL, "b is NULL");
}

static void scopes(void **state)
{
    (void)state;
    fdl_loader *dl = fdl_data_loader(pairs(1000), 2);
    check_some(dl);
    int64_t live = -1;
    int depth = fdl_scope_depth(), batches = 0;
    fdl_tensor *kept = NULL;
    for (int e = 0; e < 2; e++)
        FDL_BATCHES(b, dl, e)
        {
            fdl_relu(fdl_data_at(b, 0));
            if (live < 0)
                live = fdl_live_tensors();
            assert_int_equal(fdl_live_tensors(), live + (kept != NULL));
            assert_int_equal(fdl_scope_depth(), depth + 1);
            if (e == 0 && batches == 5)
                kept = fdl_keep(fdl_data_at(b, 0));
            batches++;
        }
    assert_int_equal(batches, 1000);
    assert_int_equal(fdl_scope_depth(), depth);
    assert_int_equal(fdl_numel(kept), 2);
    check_ok(fdl_free(kept));
    fdl_data_loader_free(dl);
}

static fdl_tensor *first_sum(fdl_loader *dl)
{
    FDL_BATCHES(b, dl, 0)
    {
        FDL_SCOPE;
        FDL_RETURN(fdl_sum(fdl_data_at(b, 0)));
    }
    return NULL;
}

static fdl_tensor *first_batch(fdl_loader *dl)
{
    FDL_BATCHES(b, dl, 0)
    FDL_RETURN(fdl_data_at(b, 0));
    return NULL;
}

static void leaving(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    {
        FDL_SCOPE;
        fdl_loader *dl = fdl_data_loader(pairs(10), 2);
        check_some(dl);
        int depth = fdl_scope_depth(), n = 0, outer = 0;
        int64_t epoch, batches;
        check_ok(fdl_data_position(dl, &epoch, &batches));
        assert_true(epoch == -1 && batches == 0);
        FDL_BATCHES(b, dl, 0)
        {
            if (++n == 2)
                break;
        }
        assert_int_equal(n, 2);
        check_ok(fdl_data_status(dl));
        check_ok(fdl_data_position(dl, &epoch, &batches));
        assert_true(epoch == 0 && batches == 2);
        n = 0;
        FDL_BATCHES(b, dl, 1)
        { /* a whole one after it, and continue */
            if (n++ % 2)
                continue;
            outer++;
        }
        assert_true(n == 5 && outer == 3);
        assert_int_equal(fdl_scope_depth(), depth);
        fdl_tensor *sum = first_sum(dl); /* 3 + 1 */
        expect(sum, FDL_FLOAT32, FDL_SCALAR, (double[]){4});
        expect(first_batch(dl), FDL_FLOAT32, FDL_SHAPE(2), (double[]){3, 1});
        assert_int_equal(fdl_scope_depth(), depth);
        fdl_loader *dl2 = fdl_data_loader(pairs(4), 2);
        n = 0;
        FDL_BATCHES(a, dl, 0)
        FDL_BATCHES(b, dl2, 0)
        n++;
        assert_int_equal(n, 10);
        fdl_data_loader_free(dl2);
        fdl_data_loader_free(dl);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

static void one_epoch_at_a_time(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_loader *dl = fdl_data_loader(pairs(10), 2);
    check_some(dl);
    fdl_iter *old = fdl_data_epoch(dl, 0);
    check_some(old);
    check_some(fdl_data_next(old));
    int64_t seen[10];
    int batches;
    fdl_iter *now = fdl_data_epoch(dl, 1);
    check_some(now);
    assert_null(fdl_data_next(old));
    assert_int_equal(fdl_data_left(old), 0);
    assert_int_equal(fdl_data_left(now), 5);
    check_some(fdl_data_next(now));
    fdl_data_epoch_end(old); /* ends nothing but itself */
    assert_int_equal(fdl_data_left(now), 4);
    assert_int_equal(collect(dl, 1, seen, &batches), 10);
    fdl_data_epoch_end(now);
    now = fdl_data_epoch(dl, 0);
    fdl_data_loader_free(dl);
    assert_null(fdl_data_next(now));
    assert_int_equal(fdl_data_left(now), 0);
    fdl_data_epoch_end(now);
}

static void resuming(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_loader *dl = fdl_data_loader(pairs(10), 2);
    check_some(dl);
    int64_t seen[10], epoch, done;
    int batches;
    collect(dl, 4, seen, &batches);
    for (int64_t skip = 0; skip <= 5; skip++) {
        fdl_iter *it = fdl_data_epoch(dl, 4, .skip = skip);
        check_some(it);
        assert_int_equal(fdl_data_left(it), 5 - skip);
        fdl_batch *b = fdl_data_next(it);
        if (skip == 5)
            assert_null(b);
        else
            assert_memory_equal(fdl_data_indices(b), seen + 2 * skip, 2 * sizeof *seen);
        check_ok(fdl_data_position(dl, &epoch, &done));
        assert_true(epoch == 4 && done == (skip < 5 ? skip + 1 : 5));
        fdl_data_epoch_end(it);
    }
    fdl_data_loader_free(dl);
}

static void writing(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        fdl_loader *dl = fdl_data_loader(pairs(10), 5, .in_order = order, .writable = order);
        check_some(dl);
        int64_t seen[10];
        int batches;
        for (int e = 0; e < 2; e++)
            FDL_BATCHES(b, dl, e)
        check_ok(fdl_fill_(fdl_data_at(b, 0), -1));
        assert_int_equal(collect(dl, 0, seen, &batches), 10); /* compares the positions */
        fdl_data_loader_free(dl);
    }
    fdl_loader *dl = fdl_data_loader(pairs(10), 5, .in_order = true);
    FDL_BATCHES(b, dl, 0)
    check_ok(fdl_fill_(fdl_data_at(b, 0), -1)); /* views: written through, as the header says */
    FDL_BATCHES(b, dl, 1)
    assert_true(fdl_item(fdl_max(fdl_data_at(b, 0))) == -1);
    fdl_data_loader_free(dl);
}

static void shared(void **state)
{
    (void)state;
    fdl_dataset *ds = pairs(20);
    fdl_loader *a = fdl_data_loader(fdl_data_ref(ds), 5), *b = fdl_data_eval_loader(ds, 7);
    check_some(a);
    check_some(b);
    int64_t seen[20];
    int batches;
    assert_int_equal(collect(a, 0, seen, &batches), 20);
    fdl_data_loader_free(a);
    assert_int_equal(collect(b, 0, seen, &batches), 20);
    fdl_data_loader_free(b);
}

static void no_gradients(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_loader *dl =
        fdl_data_loader(fdl_data_tensors(FDL_LIST(fdl_ones(FDL_SHAPE(4, 2), .requires_grad = true))), 2);
    check_some(dl);
    FDL_BATCHES(b, dl, 0)
    assert_false(fdl_requires_grad(fdl_data_at(b, 0)));
    assert_true(fdl_grad_enabled());
    fdl_data_loader_free(dl);
}

/* ---- on a GPU ------------------------------------------------------------------------------------------ */

static void cuda(void **state)
{
    (void)state;
    if (!fdl_cuda_available()) {
        print_message("skipped: no CUDA device\n");
        skip();
    }
    FDL_SCOPE;
    fdl_dataset *bytes = fdl_data_div(
        fdl_data_tensors(FDL_LIST(fdl_from_u8(((uint8_t[]){0, 51, 102, 255}), FDL_SHAPE(4)))), 0, 255);
    fdl_dataset *kinds[] = {pairs(40), fdl_data_fn(40, 2, pair, NULL)};
    for (int kind = 0; kind < 2; kind++)
        for (int order = 0; order < 2; order++) {
            fdl_loader *dl =
                fdl_data_loader(fdl_data_ref(kinds[kind]), 7, .device = FDL_CUDA(0), .in_order = order);
            fdl_loader *cpu = fdl_data_loader(fdl_data_ref(kinds[kind]), 7, .in_order = order);
            check_some(dl);
            check_some(cpu);
            int64_t here[40], there[40];
            int batches;
            for (int e = 0; e < 2; e++) {
                assert_int_equal(collect(dl, e, there, &batches), 35);
                assert_int_equal(collect(cpu, e, here, &batches), 35);
                assert_memory_equal(here, there, 35 * sizeof *here);
                FDL_BATCHES(b, dl, e)
                for (int p = 0; p < 2; p++)
                    assert_true(fdl_device_eq(fdl_device_of(fdl_data_at(b, p)), FDL_CUDA(0)));
            }
            fdl_data_loader_free(cpu);
            fdl_data_loader_free(dl);
        }
    fdl_data_free(kinds[0]);
    fdl_data_free(kinds[1]);
    fdl_loader *dl = fdl_data_eval_loader(bytes, 4, .device = FDL_CUDA(0));
    check_some(dl);
    assert_int_equal(fdl_data_loader_sample_bytes(dl), 1); /* bytes on the device */
    FDL_BATCHES(b, dl, 0)
    assert_true(fdl_allclose(fdl_cpu(fdl_data_at(b, 0)), fdl_vec(0, 0.2, 0.4, 1), .rtol = 1e-6));
    fdl_data_loader_free(dl);

    int64_t used, total, n;
    check_ok(fdl_cuda_mem_info(0, &used, &total));
    n = 2 * total >> 20; /* twice the device's memory, in samples of 1 MiB */
    int64_t before = fdl_live_tensors();
    fdl_dataset *ds = fdl_data_new(&(fdl_data_vtab){.len = len_of, .batch = huge, .arity = 1}, &n);
    assert_null(fdl_data_loader(ds, 4, .device = FDL_CUDA(0), .mode = FDL_DATA_RESIDENT));
    check_error(FDL_E_OOM, "needs", "at most", "GB");
    assert_int_equal(fdl_live_tensors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic),   cmocka_unit_test(asking),    cmocka_unit_test(each_sample_once),
        cmocka_unit_test(in_order),     cmocka_unit_test(fetched),   cmocka_unit_test(samplers),
        cmocka_unit_test(refusals),     cmocka_unit_test(too_large), cmocka_unit_test(names),
        cmocka_unit_test(scopes),       cmocka_unit_test(leaving),   cmocka_unit_test(one_epoch_at_a_time),
        cmocka_unit_test(resuming),     cmocka_unit_test(writing),   cmocka_unit_test(shared),
        cmocka_unit_test(no_gradients), cmocka_unit_test(cuda),
    };
    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
