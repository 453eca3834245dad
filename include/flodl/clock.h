/* Time. */
#ifndef FLODL_CLOCK_H
#define FLODL_CLOCK_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

/* Seconds on a clock that only goes forward; its zero means nothing. For differences. */
FDL_API double fdl_now(void);
/* Seconds since 1970-01-01 UTC, which may jump when the machine's clock is set. For dates. */
FDL_API double fdl_now_utc(void);

FDL_END_DECLS

#endif
