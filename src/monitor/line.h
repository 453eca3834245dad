/* A line of text being put together: UTF-8, with a count of the columns that it takes on a terminal, colours
 * where they are wanted, and a limit where the terminal ends. It never fails: what there is no memory for is
 * left out. */
#ifndef FLODL_MONITOR_LINE_H
#define FLODL_MONITOR_LINE_H

#include "flodl/base.h"

typedef enum monitor_style { MONITOR_PLAIN, MONITOR_DIM, MONITOR_GREEN } monitor_style;

typedef struct monitor_line {
    char *at;
    size_t used, capacity;
    int columns;
    int limit; /* columns; what goes beyond is left out */
    bool colour;
    monitor_style style;
} monitor_line;

bool monitor_line_open(monitor_line *line); /* false: no memory at all */
void monitor_line_free(monitor_line *line);
/* Empties it. */
void monitor_line_start(monitor_line *line, bool colour, int limit);
/* Adds text. Control characters, and bytes that aren't UTF-8, become '?': a name must not move the cursor. */
void monitor_line_text(monitor_line *line, const char *text);
void monitor_line_format(monitor_line *line, const char *format, ...) FDL_PRINTF(2, 3); /* short texts */
void monitor_line_style(monitor_line *line, monitor_style style);
/* Spaces up to a column. */
void monitor_line_pad(monitor_line *line, int column);
/* Adds one byte that takes no column: '\r', '\n'. */
void monitor_line_control(monitor_line *line, char c);
/* Adds the terminal's order to empty the rest of the row. */
void monitor_line_erase(monitor_line *line);
/* Columns of a text. */
int monitor_columns(const char *text);

#endif
