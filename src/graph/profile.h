/* What profiles have to do with the rest of a graph. */
#ifndef FLODL_GRAPH_PROFILE_H
#define FLODL_GRAPH_PROFILE_H

#include "flodl/profile.h"
#include "series.h"

/* The last profile of g; NULL: none. */
const fdl_profile *graph_profile(const graph *g);
/* The histories of times; NULL: none. */
series_store *graph_timings(graph *g);

#endif
