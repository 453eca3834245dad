/* How versions 1 and 2 of checkpoints name and cut the leaves of modules whose leaves are called otherwise here. */
#include "module_private.h"

typedef struct leaf_rename {
    const char *kinds, *leaf; /* kinds: each between spaces */
    legacy_leaf to;
} leaf_rename;

#define CELLS " grucell lstmcell rnn_cell "
#define LAYERS " gru lstm rnn "
#define ATTENTION " multihead_attention "
#define NORMS " batchnorm batchnorm2d batch_norm1d batch_norm3d "

static const leaf_rename renames[] = {
    {CELLS, "weight_ih", {1, {"w_ih"}}},
    {CELLS, "weight_hh", {1, {"w_hh"}}},
    {CELLS, "bias_ih", {1, {"b_ih"}}},
    {CELLS, "bias_hh", {1, {"b_hh"}}},
    {ATTENTION, "in_proj_weight", {3, {"q_proj.weight", "k_proj.weight", "v_proj.weight"}}},
    {ATTENTION, "in_proj_bias", {3, {"q_proj.bias", "k_proj.bias", "v_proj.bias"}}},
    {ATTENTION, "q_proj_weight", {1, {"q_proj.weight"}}},
    {ATTENTION, "k_proj_weight", {1, {"k_proj.weight"}}},
    {ATTENTION, "v_proj_weight", {1, {"v_proj.weight"}}},
    {ATTENTION, "q_proj_bias", {1, {"q_proj.bias"}}},
    {ATTENTION, "k_proj_bias", {1, {"k_proj.bias"}}},
    {ATTENTION, "v_proj_bias", {1, {"v_proj.bias"}}},
    {NORMS, "num_batches_tracked", {0, {NULL}}},
};

static bool is_one_of(const char *kind, const char *kinds)
{
    size_t n = strlen(kind);
    for (const char *at = kinds; (at = strstr(at, kind)); at++)
        if (at[-1] == ' ' && at[n] == ' ')
            return true;
    return false;
}

legacy_leaf module_legacy_leaf(fdl_module *m, const char *leaf, const char *outer, const char *child)
{
    const char *kind = fdl_module_kind(m);
    for (size_t i = 0; i < sizeof renames / sizeof renames[0]; i++)
        if (strcmp(renames[i].leaf, leaf) == 0 && is_one_of(kind, renames[i].kinds))
            return renames[i].to;
    if (is_one_of(kind, LAYERS)) { /* "weight_ih_l0" */
        static const char *const pairs[][2] = {
            {"weight_ih", "w_ih"}, {"weight_hh", "w_hh"}, {"bias_ih", "b_ih"}, {"bias_hh", "b_hh"}};
        for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
            if (strncmp(leaf, pairs[i][0], strlen(pairs[i][0])) == 0)
                return (legacy_leaf){1, {pairs[i][1]}};
    }
    if (child && strcmp(child, "out_proj") == 0 && is_one_of(outer, ATTENTION))
        return (legacy_leaf){1, {strcmp(leaf, "weight") == 0 ? "out_proj.weight" : "out_proj.bias"}};
    return (legacy_leaf){1, {leaf}};
}
