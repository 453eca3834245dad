/* The gate between a capture and the CUDA work of other threads. */
#include "flodl/cuda_graph.h"

#include <condition_variable>
#include <mutex>

namespace
{

struct {
    std::mutex lock;
    std::condition_variable changed;
    int inside = 0; /* threads that work */
    int closed = 0; /* by all threads */
} gate;

/* Of these, this thread's. */
thread_local int entered, shut;

} // namespace

void fdl_cuda_gate_enter(void)
{
    if (entered++)
        return;
    std::unique_lock<std::mutex> hold(gate.lock);
    /* Who has closed it passes, whoever else has: two captures may go on at a time, and neither may wait for the other. */
    gate.changed.wait(hold, [] { return shut > 0 || gate.closed == 0; });
    gate.inside++;
}

void fdl_cuda_gate_leave(void)
{
    if (!entered || --entered)
        return;
    std::lock_guard<std::mutex> hold(gate.lock);
    gate.inside--;
    gate.changed.notify_all();
}

void fdl_cuda_gate_close(void)
{
    std::unique_lock<std::mutex> hold(gate.lock);
    gate.closed++;
    shut++;
    gate.changed.wait(hold, [] { return gate.inside == (entered ? 1 : 0); });
}

fdl_status fdl_cuda_gate_open(void)
{
    std::lock_guard<std::mutex> hold(gate.lock);
    if (!shut)
        return fdl_fail(FDL_E_STATE, "fdl_cuda_gate_open: this thread didn't close the gate");
    shut--;
    gate.closed--;
    gate.changed.notify_all();
    return FDL_OK;
}
