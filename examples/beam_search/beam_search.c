/* Beam search over a small language model (embedding, GRU cell, linear), several sentences at once and all in
 * tensors. Sequences, lengths and scores are those that a plain search in PyTorch finds, hypothesis by
 * hypothesis. */
#include <flodl/flodl.h>
#include <math.h>

#include "beam_search_data.h"

typedef struct model {
    fdl_tensor *embedding, *w_ih, *w_hh, *b_ih, *b_hh, *head_weight, *head_bias;
} model;

/* Every hypothesis, N sentences of BEAMS each. */
typedef struct beams {
    fdl_tensor *tokens;  /* int64 [N, BEAMS, steps + 1], the prompt first; END behind the end */
    fdl_tensor *scores;  /* [N, BEAMS], sums of log-probabilities */
    fdl_tensor *lengths; /* [N, BEAMS], without the prompt, with the end */
    fdl_tensor *ended;   /* bool [N, BEAMS] */
    fdl_tensor *h;       /* [N * BEAMS, HIDDEN] */
} beams;

/* prompt: int64 [N]. All hypotheses of a sentence begin equal, so only its first may be extended. */
static beams beams_begin(fdl_tensor *prompt)
{
    int64_t n = fdl_size(prompt, 0);
    fdl_tensor *is_first = fdl_eq(fdl_arange(0, BEAMS, 1), 0);
    fdl_tensor *scores = fdl_where(is_first, fdl_scalar(0), fdl_scalar(-INFINITY)); /* [BEAMS] */
    return (beams){
        .tokens = fdl_repeat(fdl_reshape(prompt, FDL_SHAPE(-1, 1, 1)), FDL_DIMS(1, BEAMS, 1)),
        .scores = fdl_repeat(fdl_unsqueeze(scores, 0), FDL_DIMS(n, 1)),
        .lengths = fdl_zeros(FDL_SHAPE(n, BEAMS)),
        .ended = fdl_zeros(FDL_SHAPE(n, BEAMS), .dtype = FDL_BOOL),
        .h = fdl_zeros(FDL_SHAPE(n * BEAMS, HIDDEN)),
    };
}

/* The log-probabilities of each next token [N, BEAMS, VOCABULARY]; *h is the state after it. */
static fdl_tensor *next(const model *m, const beams *b, fdl_tensor **h)
{
    fdl_tensor *last = fdl_flatten(fdl_select(b->tokens, 2, -1), 0, 1); /* [N * BEAMS] */
    *h = fdl_gru_cell(fdl_embedding(m->embedding, last), b->h, m->w_ih, m->w_hh, .b_ih = m->b_ih,
                      .b_hh = m->b_hh);
    fdl_tensor *logp = fdl_log_softmax(fdl_linear(*h, m->head_weight, .bias = m->head_bias), -1);
    return fdl_unflatten(logp, 0, FDL_SHAPE(-1, BEAMS));
}

/* One token more for every hypothesis that hasn't ended. */
static beams beams_step(const model *m, const beams *b)
{
    int64_t n = fdl_size(b->scores, 0);
    fdl_tensor *h, *flat;
    fdl_tensor *logp = next(m, b, &h);

    /* What has ended goes on with END alone, at no cost. */
    fdl_tensor *token_is_end = fdl_eq(fdl_arange(0, VOCABULARY, 1), END); /* [VOCABULARY] */
    fdl_tensor *padding = fdl_where(token_is_end, fdl_scalar(0), fdl_scalar(-INFINITY));
    logp = fdl_where(fdl_unsqueeze(b->ended, 2), padding, logp);

    /* The best BEAMS of BEAMS * VOCABULARY: from which hypothesis, with which token. */
    fdl_tensor *total = fdl_flatten(fdl_add(fdl_unsqueeze(b->scores, 2), logp), 1, 2);
    fdl_tensor *scores = fdl_topk(total, BEAMS, 1, .indices = &flat); /* [N, BEAMS] both */
    fdl_tensor *from = fdl_floor_divide(flat, fdl_full(FDL_SCALAR, VOCABULARY, .dtype = FDL_INT64));
    fdl_tensor *token = fdl_remainder_scalar(flat, VOCABULARY);

    /* Their past: sentence i's hypothesis k is row i * BEAMS + k of h. */
    fdl_tensor *row = fdl_mul(fdl_arange(0, n, 1, .dtype = FDL_INT64), BEAMS);
    row = fdl_flatten(fdl_add(from, fdl_unsqueeze(row, 1)), 0, 1);
    fdl_tensor *past = fdl_gather(b->tokens, 1, fdl_expand_as(fdl_unsqueeze(from, 2), b->tokens));
    fdl_tensor *ended = fdl_gather(b->ended, 1, from);
    return (beams){
        .tokens = fdl_cat(FDL_LIST(past, fdl_unsqueeze(token, 2)), 2),
        .scores = scores,
        .lengths = fdl_add(fdl_gather(b->lengths, 1, from), fdl_logical_not(ended)),
        .ended = fdl_logical_or(ended, fdl_eq(token, END)),
        .h = fdl_index_select(h, 0, row),
    };
}

/* Best first, by log-probability / length^ALPHA. */
static beams beams_rank(const beams *b)
{
    fdl_tensor *order;
    fdl_tensor *scores =
        fdl_sort(fdl_div(b->scores, fdl_pow(b->lengths, ALPHA)), 1, .descending = true, .indices = &order);
    return (beams){
        .tokens = fdl_gather(b->tokens, 1, fdl_expand_as(fdl_unsqueeze(order, 2), b->tokens)),
        .scores = scores,
        .lengths = fdl_gather(b->lengths, 1, order),
    };
}

int main(void)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    model m = {
        .embedding = fdl_from_f32(embedding_value, FDL_SHAPE(VOCABULARY, EMBEDDING)),
        .w_ih = fdl_from_f32(w_ih_value, FDL_SHAPE(3 * HIDDEN, EMBEDDING)),
        .w_hh = fdl_from_f32(w_hh_value, FDL_SHAPE(3 * HIDDEN, HIDDEN)),
        .b_ih = fdl_from_f32(b_ih_value, FDL_SHAPE(3 * HIDDEN)),
        .b_hh = fdl_from_f32(b_hh_value, FDL_SHAPE(3 * HIDDEN)),
        .head_weight = fdl_from_f32(head_weight_value, FDL_SHAPE(VOCABULARY, HIDDEN)),
        .head_bias = fdl_from_f32(head_bias_value, FDL_SHAPE(VOCABULARY)),
    };

    beams b = beams_begin(fdl_from_i64(prompt_value, FDL_SHAPE(SENTENCES)));
    int steps = 0;
    while (steps < STEPS && !fdl_item_bool(fdl_all(b.ended))) {
        b = beams_step(&m, &b);
        FDL_NEED(b.h && b.tokens); /* NULL passes through: any failure of the step ends here */
        steps++;
    }
    b = beams_rank(&b);

    int64_t tokens[SENTENCES * BEAMS * (STEPS + 1)], lengths[SENTENCES * BEAMS];
    double scores[SENTENCES * BEAMS];
    FDL_CHECK(fdl_to_i64(fdl_pad(b.tokens, FDL_DIMS(0, STEPS - steps), .value = END), tokens,
                         SENTENCES * BEAMS * (STEPS + 1)));
    FDL_CHECK(fdl_to_i64(b.lengths, lengths, SENTENCES * BEAMS));
    FDL_CHECK(fdl_to_f64(b.scores, scores, SENTENCES * BEAMS));

    bool ok = true;
    for (int i = 0; i < SENTENCES * BEAMS; i++) {
        const int64_t *found = tokens + i * (STEPS + 1), *want = tokens_recorded + i * (STEPS + 1);
        bool same = memcmp(found, want, (STEPS + 1) * sizeof *found) == 0 &&
                    lengths[i] == lengths_recorded[i] && fabs(scores[i] - scores_recorded[i]) <= 1e-5;
        printf("%s%lld:", i % BEAMS ? "" : "\n", (long long)found[0]);
        for (int64_t k = 1; k <= lengths[i]; k++)
            printf(" %2lld", (long long)found[k]);
        printf("%*s %.4f%s\n", (int)(3 * (STEPS - lengths[i])), "", scores[i], same ? "" : "  NOT PyTorch's");
        ok = ok && same;
    }
    puts(ok ? "\nthe sequences and scores are PyTorch's" : "\nthe search went another way than PyTorch's");
    return ok ? 0 : 1;
}
