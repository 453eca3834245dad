/* A pre-norm transformer block written by hand from tensor operations, x + attention(norm(x)) and then
 * h + mlp(norm(h)), forward and backward. Result and every gradient are compared with those that PyTorch
 * computes from the same numbers. */
#include <flodl/flodl.h>
#include <math.h>

#include "transformer_block_data.h"

enum { BATCH = 2, POSITIONS = 5, WIDTH = 8, HEADS = 2 };

/* The input and the parameters: leaves in float64 with the names and shapes of the data's list. */
#define FIELD(name, ...) fdl_tensor *name;
typedef struct block {
    LEAVES(FIELD)
} block;

/* [N, T, E] -> [N, HEADS, T, E / HEADS], a view. */
static fdl_tensor *heads(fdl_tensor *x)
{
    return fdl_transpose(fdl_unflatten(x, -1, FDL_SHAPE(HEADS, -1)), 1, 2);
}

/* x [N, T, E] -> [N, T, E]: position i attends to positions 0 to i. */
static fdl_tensor *attention(const block *b, fdl_tensor *x)
{
    fdl_list qkv = fdl_chunk(fdl_linear(x, b->qkv_weight, .bias = b->qkv_bias), 3, -1);
    fdl_tensor *y = fdl_scaled_dot_product_attention(heads(fdl_list_at(qkv, 0)), heads(fdl_list_at(qkv, 1)),
                                                     heads(fdl_list_at(qkv, 2)), .causal = true);
    y = fdl_flatten(fdl_transpose(y, 1, 2), 2, 3);
    return fdl_linear(y, b->out_weight, .bias = b->out_bias);
}

/* The same with the mask and the softmax written out. */
static fdl_tensor *attention_in_full(const block *b, fdl_tensor *x)
{
    fdl_list qkv = fdl_chunk(fdl_linear(x, b->qkv_weight, .bias = b->qkv_bias), 3, -1);
    fdl_tensor *q = heads(fdl_list_at(qkv, 0)), *k = heads(fdl_list_at(qkv, 1)),
               *v = heads(fdl_list_at(qkv, 2));
    fdl_tensor *scores = fdl_div(fdl_matmul(q, fdl_mT(k)), sqrt((double)WIDTH / HEADS));
    fdl_tensor *later = fdl_triu(fdl_ones(FDL_SHAPE(POSITIONS, POSITIONS), .dtype = FDL_BOOL), .diagonal = 1);
    fdl_tensor *weights = fdl_softmax(fdl_masked_fill(scores, later, -INFINITY), -1);
    fdl_tensor *y = fdl_reshape(fdl_permute(fdl_matmul(weights, v), FDL_DIMS(0, 2, 1, 3)),
                                FDL_SHAPE(BATCH, POSITIONS, WIDTH));
    return fdl_linear(y, b->out_weight, .bias = b->out_bias);
}

/* x [N, T, E] -> [N, T, E], each position by itself. */
static fdl_tensor *mlp(const block *b, fdl_tensor *x)
{
    fdl_tensor *h = fdl_gelu(fdl_linear(x, b->up_weight, .bias = b->up_bias));
    return fdl_linear(h, b->down_weight, .bias = b->down_bias);
}

static fdl_tensor *forward(const block *b, fdl_tensor *attend(const block *b, fdl_tensor *x))
{
    FDL_SCOPE;
    fdl_tensor *n1 = fdl_layer_norm(b->x, FDL_SHAPE(WIDTH), .weight = b->norm1_weight, .bias = b->norm1_bias);
    fdl_tensor *h = fdl_add(b->x, attend(b, n1));
    fdl_tensor *n2 = fdl_layer_norm(h, FDL_SHAPE(WIDTH), .weight = b->norm2_weight, .bias = b->norm2_bias);
    FDL_RETURN(fdl_add(h, mlp(b, n2)));
}

/* Whether x has the recorded values; prints the largest difference. */
static bool agrees(const char *what, fdl_tensor *x, const double *recorded)
{
    FDL_SCOPE;
    fdl_tensor *want = fdl_from_f64(recorded, fdl_shape_of(x));
    double worst = fdl_item(fdl_max(fdl_abs(fdl_sub(x, want))));
    bool ok = worst <= 1e-12; /* NaN fails */
    printf("%-12s differs by %.1e at most%s\n", what, worst, ok ? "" : ": TOO MUCH");
    return ok;
}

int main(void)
{
    FDL_SCOPE;
    block b;
#define LEAF(name, ...)                                                                 \
    b.name = fdl_from_f64(name##_value, FDL_SHAPE(__VA_ARGS__), .requires_grad = true); \
    FDL_NEED(b.name);
    LEAVES(LEAF)

    fdl_tensor *y = forward(&b, attention);
    fdl_tensor *target = fdl_from_f64(target_value, FDL_SHAPE(BATCH, POSITIONS, WIDTH));
    FDL_CHECK(fdl_backward(fdl_mse_loss(y, target)));

    bool ok = agrees("y", y, y_recorded);
#define CHECK(name, ...) ok = agrees(#name, fdl_grad(b.name), name##_gradient) && ok;
    LEAVES(CHECK)
    ok = agrees("in full", forward(&b, attention_in_full), y_recorded) && ok;

    /* Causal: what comes out at position 2 owes nothing to the positions after it. */
    fdl_tensor *third = fdl_sum(fdl_select(forward(&b, attention), 1, 2));
    fdl_tensor *g = fdl_list_at(fdl_grad_of(FDL_LIST(third), FDL_LIST(b.x)), 0);
    FDL_NEED(g);
    double before = fdl_item(fdl_sum(fdl_abs(fdl_narrow(g, 1, 0, 3))));
    double after = fdl_item(fdl_sum(fdl_abs(fdl_narrow(g, 1, 3, POSITIONS - 3))));
    printf("position 2 depends on 0 to 2 by %.2f, on 3 and 4 by %g\n", before, after);
    ok = ok && before > 0 && after == 0;
    puts(ok ? "the block is PyTorch's" : "the block is NOT PyTorch's");
    return ok ? 0 : 1;
}
