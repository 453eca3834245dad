#include <flodl/flodl.h>
#include <stdio.h>

int main(void)
{
    FDL_SCOPE;
    double sum = fdl_item(fdl_sum(fdl_matmul(fdl_ones(FDL_SHAPE(2, 3)), fdl_ones(FDL_SHAPE(3, 4)))));
    FDL_NEED(sum == 24);
    return printf("%g\n", sum) < 0;
}
