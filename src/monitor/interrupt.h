/* SIGINT and SIGTERM as a flag, for as long as a monitor asks for it. */
#ifndef FLODL_MONITOR_INTERRUPT_H
#define FLODL_MONITOR_INTERRUPT_H

#include "flodl/base.h"

/* FDL_E_STATE when another owner has the signals. The owner is only compared, never used. */
fdl_status monitor_interrupt_open(const void *owner);
/* Puts back what was there before; nothing when the owner doesn't have the signals. */
void monitor_interrupt_close(const void *owner);
/* The signal that came since the opening, or 0; 0 for anybody but the owner. */
int monitor_interrupt_signal(const void *owner);

#endif
