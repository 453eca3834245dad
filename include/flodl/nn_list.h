/* Modules in a row, which a module of one's own runs as it likes. torch.nn.ModuleList. A chain is fdl_flow (flow.h). nn.h says what
 * holds for all constructors. */
#ifndef FLODL_NN_LIST_H
#define FLODL_NN_LIST_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* `fdl_nn_list(a, b, c)`: nn.ModuleList, its children "0", "1", "2", all taken over, on failure too; fdl_module_children and
 * fdl_module_child_at give them by number. fdl_forward of the list itself: FDL_E_UNSUPPORTED. Owned. */
FDL_API fdl_module *fdl_nn_list_of(int n, fdl_module *const *modules);
/* Takes module over, on failure too, as the last of the list; returns it, borrowed. A module that has an owner already:
 * FDL_E_STATE; another module than a list: FDL_E_ARG. The list stays what it was then. ModuleList.append. */
FDL_API fdl_module *fdl_module_append(fdl_module *list, fdl_module *module);

FDL_END_DECLS

#ifndef __cplusplus
/* The modules stand in an initialiser list, as the steps of fdl_flow do; the first element allows an empty one. */
#define FDL_NN_LIST_(v, ...)                                    \
    __extension__({                                             \
        fdl_module *const v[] = {NULL, __VA_ARGS__};            \
        fdl_nn_list_of((int)(sizeof v / sizeof *v) - 1, v + 1); \
    })
#define fdl_nn_list(...) FDL_NN_LIST_(FDL_CAT(fdl_list_, __COUNTER__), __VA_ARGS__)
#endif

#endif
