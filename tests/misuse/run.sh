#!/bin/sh
# run.sh SOURCE BUILD: what looks right and isn't doesn't compile: an option that is given by place, among those that have names.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compiles() # CALL FLAGS...: as the body of a function
{
    call=$1
    shift
    printf '#include <flodl/flodl.h>\nvoid *f(fdl_params *ps, fdl_tensor *x, fdl_tensor *w);\nvoid *f(fdl_params *ps, fdl_tensor *x, fdl_tensor *w) { (void)ps, (void)x, (void)w; return %s; }\n' "$call" >"$work/call.c"
    "$cc" -std=gnu17 -fsyntax-only "$@" -I"$source/include" -I"$build/include" "$work/call.c" 2>"$work/said"
}
source=$1 build=$2 status=0 tried=0
for cc in gcc clang; do
    command -v "$cc" >/dev/null || continue
    # A number with a point is an error anyway; whole ones and true are to compilers before GCC 14 a warning that is always on.
    while IFS='|' read -r wrong right; do
        tried=$((tried + 1))
        if compiles "$wrong" -Werror=int-conversion; then
            echo "$cc takes $wrong"
            status=1
        fi
        if ! compiles "$right" -Wall -Wextra -Werror; then
            echo "$cc doesn't take $right:"
            cat "$work/said"
            status=1
        fi
    done <<'END'
fdl_optim_sgd(ps, 0.1, 0.9)|fdl_optim_sgd(ps, .lr = 0.1, .momentum = 0.9)
fdl_optim_adam(ps, 3e-4)|fdl_optim_adam(ps, .lr = 3e-4)
fdl_leaky_relu(x, 0.2)|fdl_leaky_relu(x, .negative_slope = 0.2)
fdl_nn_conv2d(1, 1, 3, 2)|fdl_nn_conv2d(1, 1, 3, .stride = 2)
fdl_max_pool2d(x, 3, 2, 1)|fdl_max_pool2d(x, 3, .stride = 2, .padding = 1)
fdl_dropout(x, 0.5, true)|fdl_dropout(x, 0.5, .training = true)
fdl_mean_dim(x, 1, true)|fdl_mean_dim(x, 1, .keepdim = true)
fdl_cross_entropy(x, w, FDL_SUM)|fdl_cross_entropy(x, w, .reduction = FDL_SUM)
END
done
[ "$tried" -gt 0 ] || { echo "no compiler"; exit 1; }
[ "$status" = 0 ] && echo "$tried calls refused"
exit $status
