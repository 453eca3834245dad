/* What the stream that the lines go to can do. */
#ifndef FLODL_MONITOR_TERMINAL_H
#define FLODL_MONITOR_TERMINAL_H

#include "flodl/base.h"

typedef struct monitor_terminal {
    bool live;   /* a terminal on which a line can be written anew */
    bool colour; /* FLODL_COLOR, NO_COLOR, FORCE_COLOR, then: is it such a terminal */
    bool utf8;   /* the environment's locale has characters beyond ASCII */
} monitor_terminal;

monitor_terminal monitor_terminal_of(FILE *out);
/* Columns of the terminal now; 80 when it doesn't say. */
int monitor_terminal_columns(FILE *out);

#endif
