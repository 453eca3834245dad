/* How long an epoch takes. */
#include "eta.h"

enum {
    SPAN = 10,        /* epochs after which the weights stop being those of a plain mean */
    TRUSTED = 4,      /* from this epoch on the mean is good enough to call something a stall */
    STALL = 8,        /* how many times the mean a gap must be to be one */
    STALL_WEIGHT = 4, /* by how much it then counts less */
};

static double weight(const monitor_eta *eta, double gap)
{
    int64_t n = eta->epochs + 1;
    double a = 2.0 / (double)((n < SPAN ? n : SPAN) + 1);
    return n >= TRUSTED && gap > STALL * eta->mean ? a / STALL_WEIGHT : a;
}

double monitor_eta_with(const monitor_eta *eta, double gap, double done)
{
    if (eta->epochs == 0)
        return gap;
    return eta->mean + weight(eta, gap) * done * (gap - eta->mean);
}

void monitor_eta_add(monitor_eta *eta, double gap)
{
    eta->mean = monitor_eta_with(eta, gap, 1);
    eta->epochs++;
}
