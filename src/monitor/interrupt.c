/* SIGINT and SIGTERM as a flag.
 *
 * A signal's action belongs to the process, and its handler gets a number and nothing else: so this file has
 * variables of the process, the only ones of the monitor. They are touched only by a program that asked for
 * them. */
#include "interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>

static atomic_int came;
static _Atomic(const void *) holder;
static struct sigaction before_int, before_term; /* the holder's */

static void note(int number)
{
    atomic_store(&came, number);
}

static bool install(int number, struct sigaction *before)
{
    /* SA_RESETHAND: the second one ends the process, so that a program that hangs can be ended. */
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, before) != 0)
        return false;
    /* What the shell told the program to ignore (nohup, a job in the background) stays ignored. */
    return (!(before->sa_flags & SA_SIGINFO) && before->sa_handler == SIG_IGN) ||
           sigaction(number, &action, NULL) == 0;
}

fdl_status monitor_interrupt_open(const void *owner)
{
    const void *none = NULL;
    if (!atomic_compare_exchange_strong(&holder, &none, owner))
        return none == owner
                   ? FDL_OK
                   : fdl_fail(FDL_E_STATE, "fdl_monitor_on_signal: another monitor has the signals; free "
                                           "it first");
    atomic_store(&came, 0);
    if (!install(SIGINT, &before_int) || !install(SIGTERM, &before_term)) {
        int error = errno;
        atomic_store(&holder, NULL);
        return fdl_fail(FDL_E_STATE, "fdl_monitor_on_signal: %s", strerror(error));
    }
    return FDL_OK;
}

void monitor_interrupt_close(const void *owner)
{
    if (atomic_load(&holder) != owner)
        return;
    sigaction(SIGINT, &before_int, NULL);
    sigaction(SIGTERM, &before_term, NULL);
    atomic_store(&holder, NULL);
}

int monitor_interrupt_signal(const void *owner)
{
    return atomic_load(&holder) == owner ? atomic_load(&came) : 0;
}
