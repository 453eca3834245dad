/* A residual tower with attention pooling: the port of attention_tower.py, line by line. In a sequence of vectors of some length one
 * is marked: which of the kinds is it?
 *
 *     attention_tower [--first FILE] [--load FILE] [--save FILE] [--losses FILE]
 *
 * --first begins with these weights, which the Python program saves; --load takes trained ones and only measures; --save keeps
 * what was trained, for PyTorch's load_state_dict; --losses writes the loss of each step, a line each. compare.py runs both programs and
 * compares. Without options it checks itself against what PyTorch recorded, attention_tower.safetensors: a seed gives the same weights
 * and batches here and there, so that the losses are the same, too. Exits with 0 when they are. */
#include <getopt.h>
#include <math.h>

#include <flodl/flodl.h>

enum { FEATURES = 8, KINDS = 4, LENGTH = 10, WIDTH = 16, BLOCKS = 3, HEADS = 2, STEPS = 150 };

/* ---- class Block: a flow, since data goes straight through it -------------------------------------------------------- */

/* x + down(gelu(up(norm(x)))): [N, L, width] -> the same. The tags are the attributes' names. */
static fdl_module *block(int64_t width, const char *name)
{
    fdl_module *inner =
        fdl_flow(fdl_nn_layer_norm(width), fdl_flow_tag("norm"), fdl_nn_linear(width, 2 * width),
                 fdl_flow_tag("up"), fdl_nn_gelu(), fdl_nn_linear(2 * width, width), fdl_flow_tag("down"));
    return fdl_flow_also(inner, .name = name);
}

/* ---- class Pool: a module of one's own, since it has a parameter of its own ------------------------------------------ */

typedef struct pool {
    fdl_tensor *query; /* [1, 1, width] */
    fdl_module *attn;
} pool;

/* [N, L, width] and, as "padding", [N, L] bool -> [N, width]. */
static fdl_tensor *pool_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    const pool *p = self;
    fdl_tensor *query = fdl_expand(p->query, FDL_SHAPE(fdl_size(x, 0), -1, -1));
    fdl_tensor *y = fdl_nn_mha_forward(p->attn, query, x, x, .key_padding_mask = fdl_refs_need(r, "padding"));
    return fdl_squeeze(y, 1);
}

static fdl_module *pool_new(int64_t width, int64_t heads)
{
    FDL_SCOPE;
    static const char *const inputs[] = {"padding", NULL};
    static const fdl_module_ops ops = {
        .kind = "pool", .size = sizeof(pool), .forward_named = pool_forward, .ref_names = inputs};
    fdl_module *m = fdl_module_new(&ops);
    pool *p = fdl_module_self(m);
    if (!p)
        return NULL;
    fdl_tensor *query = fdl_empty(FDL_SHAPE(1, 1, width));
    fdl_init_normal(query, 0, 0.5);
    p->query = fdl_module_param(m, "query", query);
    p->attn = fdl_module_child(m, "attn", fdl_nn_multihead_attention(width, heads, .batch_first = true));
    return fdl_module_done(m);
}

/* ---- class Tower ------------------------------------------------------------------------------------------------------- */

/* x [N, L, features] and padding [N, L] -> logits [N, kinds]. */
static fdl_module *tower(void)
{
    fdl_flow_builder *b = fdl_flow_new();
    fdl_flow_add(b, fdl_flow_input("padding"));
    fdl_flow_add(b, fdl_nn_linear(FEATURES, WIDTH));
    fdl_flow_add(b, fdl_flow_tag("embed"));
    for (int i = 0; i < BLOCKS; i++) {
        char name[32];
        snprintf(name, sizeof name, "blocks.%d", i);
        fdl_flow_add(b, block(WIDTH, name));
    }
    fdl_flow_add(b, pool_new(WIDTH, HEADS));
    fdl_flow_add(b, fdl_flow_using("padding"));
    fdl_flow_add(b, fdl_flow_tag("pool"));
    fdl_flow_add(b, fdl_nn_linear(WIDTH, KINDS));
    fdl_flow_add(b, fdl_flow_tag("head"));
    return fdl_flow_build(b);
}

/* ---- the data: in the order of the Python program, so that the numbers are the same ------------------------------------- */

/* x [n, L, features], padding [n, L] bool, kind [n]. Scope. */
static fdl_list batch(int64_t n)
{
    FDL_SCOPE;
    fdl_tensor *kind = fdl_randint(0, KINDS, FDL_SHAPE(n));
    fdl_tensor *length = fdl_randint(4, LENGTH + 1, FDL_SHAPE(n));
    fdl_tensor *place = fdl_long(fdl_mul(fdl_rand(FDL_SHAPE(n)), length));
    fdl_tensor *at = fdl_arange(0, LENGTH, 1, .dtype = FDL_INT64);
    fdl_tensor *here = fdl_eq(at, fdl_unsqueeze(place, 1));
    fdl_tensor *mark =
        fdl_mul(fdl_mul(fdl_unsqueeze(here, -1), fdl_unsqueeze(fdl_one_hot(kind, FEATURES), 1)), 4);
    fdl_tensor *x = fdl_add(fdl_randn(FDL_SHAPE(n, LENGTH, FEATURES)), mark);
    FDL_RETURN_LIST(FDL_LIST(x, fdl_ge(at, fdl_unsqueeze(length, 1)), kind));
}

/* ---- training --------------------------------------------------------------------------------------------------------------- */

static void train(fdl_module *model, double *losses)
{
    fdl_params *params = fdl_parameters(model);
    fdl_optim *opt = fdl_optim_adamw(params, .lr = 4e-4);
    fdl_sched *sched = fdl_sched_one_cycle(0.01, STEPS);
    FDL_NEED(opt && sched);
    for (int step = 0; step < STEPS; step++) {
        FDL_SCOPE;
        fdl_list b = batch(32);
        fdl_tensor *loss = fdl_cross_entropy(fdl_forward(model, b.at[0], b.at[1]), b.at[2]);
        FDL_CHECK(fdl_optim_zero_grad(opt));
        FDL_CHECK(fdl_backward(loss));
        FDL_CHECK(fdl_clip_grad_norm(params, 1.0));
        FDL_CHECK(fdl_sched_apply(sched, opt, step)); /* before the step that it is for */
        FDL_CHECK(fdl_optim_step(opt));
        losses[step] = fdl_item(loss);
    }
    fdl_optim_free(opt);
    fdl_sched_free(sched);
}

/* Prints the loss and the share of new sequences that it gets right, which it returns. */
static double measure(fdl_module *model)
{
    FDL_SCOPE;
    FDL_INFERENCE;
    FDL_CHECK(fdl_eval(model));
    FDL_CHECK(fdl_manual_seed(2));
    fdl_list b = batch(1000);
    fdl_tensor *y = fdl_forward(model, b.at[0], b.at[1]);
    double right = fdl_item(fdl_mean(fdl_eq(fdl_argmax(y, 1), b.at[2])));
    printf("loss %.4f, %.3f of 1000 right\n", fdl_item(fdl_cross_entropy(y, b.at[2])), right);
    return right;
}

/* ---- what PyTorch recorded ------------------------------------------------------------------------------------------------ */

/* The largest difference of the weights, and of the losses, from the file's. */
static bool as_recorded(const char *what, double off, double most)
{
    printf("%s differ from PyTorch's by %.1e at most\n", what, off);
    return off <= most; /* NaN is more */
}

static bool weights_are_recorded(fdl_module *model, const char *path)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_ckpt_info *file = fdl_ckpt_open(path);
    fdl_params *params = fdl_parameters(model);
    FDL_NEED(file && params);
    double off = 0;
    for (int i = 0; i < fdl_params_count(params); i++) {
        char key[128], name[160];
        FDL_CHECK(fdl_state_key(fdl_params_name(params, i), key, sizeof key));
        snprintf(name, sizeof name, "first.%s", key);
        fdl_tensor *here = fdl_param_tensor(fdl_params_at(params, i)), *there = fdl_ckpt_get(file, name);
        off = fmax(off, fdl_item(fdl_max(fdl_abs(fdl_sub(here, there)))));
        FDL_NEED(!fdl_error_pending());
    }
    fdl_ckpt_close(file);
    return as_recorded("first weights", off, 1e-6);
}

static bool losses_are_recorded(const double *losses, const char *path)
{
    FDL_SCOPE;
    fdl_ckpt_info *file = fdl_ckpt_open(path);
    fdl_tensor *there = fdl_ckpt_get(file, "losses"), *here = fdl_from_f64(losses, FDL_SHAPE(STEPS));
    double off = fdl_item(fdl_max(fdl_abs(fdl_sub(here, there))));
    FDL_NEED(!fdl_error_pending());
    fdl_ckpt_close(file);
    return as_recorded("losses", off, 1e-3); /* 150 steps of rounding in float32 */
}

static void write_losses(const double *losses, const char *path)
{
    FILE *f = fopen(path, "w");
    for (int i = 0; f && i < STEPS; i++)
        fprintf(f, "%.9g\n", losses[i]);
    if (!f || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const char *first = NULL, *load = NULL, *save = NULL, *keep = NULL;
    const char *recorded = FLODL_SOURCE_DIR "/examples/attention_tower/attention_tower.safetensors";
    static const struct option options[] = {{"first", required_argument, NULL, 'f'},
                                            {"load", required_argument, NULL, 'l'},
                                            {"save", required_argument, NULL, 's'},
                                            {"losses", required_argument, NULL, 'k'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'f':
            first = optarg;
            break;
        case 'l':
            load = optarg;
            break;
        case 's':
            save = optarg;
            break;
        case 'k':
            keep = optarg;
            break;
        default:
            return 2;
        }
    FDL_SCOPE;
    FDL_CHECK(fdl_manual_seed(1));
    fdl_module *model = tower();
    FDL_NEED(model);
    double losses[STEPS];
    bool ok = true;
    if (first)
        FDL_CHECK(fdl_ckpt_load(model, first));
    if (load) {
        FDL_CHECK(fdl_ckpt_load(model, load));
    } else {
        ok = first || weights_are_recorded(model, recorded);
        train(model, losses);
        ok = (first || losses_are_recorded(losses, recorded)) && ok;
        if (keep)
            write_losses(losses, keep);
    }
    ok = measure(model) > 0.9 && ok;
    if (save)
        FDL_CHECK(fdl_ckpt_save(model, save));
    FDL_CHECK(fdl_module_free(model));
    return ok ? 0 : 1;
}
