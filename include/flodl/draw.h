/* Drawings of a graph: as DOT text, and laid out as SVG; and curves of its training as a page.
 *
 *     FDL_CHECK(fdl_graph_svg(model, "model.svg"));
 *     FDL_CHECK(fdl_graph_svg(model, "whole.svg", .expand = true));
 *
 * Solid edges are data, dashed blue ones what fdl_flow_using wires, dotted orange ones state that waits for the next forward.
 * The nodes of a level, which don't depend on each other, stand in one dashed box. */
#ifndef FLODL_DRAW_H
#define FLODL_DRAW_H

#include "flodl/graph.h"
#include "flodl/trend.h"

FDL_BEGIN_DECLS

typedef struct fdl_graph_draw_opts {
    fdl_by_name opts_;
    bool
        expand; /* graphs inside and the bodies of loops and maps are drawn too, as boxes around what is in them */
    bool flat; /* every node of the graph is one shape, gates and switches too; not together with .expand */
    bool no_levels; /* without the boxes around levels */
    bool profile;   /* with the times of the last profiled forward (profile.h), where there is one */
} fdl_graph_draw_opts;

/* ---- DOT ----------------------------------------------------------------------------------------------- */

/* The graph in Graphviz's language: a node is called by its id, what is inside one "<id>/expert_0" or
 * "<id>/<id inside>". A node's label has its kind, its tags ("#hidden") and its number of parameters. Text, owned (free).
 * NULL: FDL_E_ARG for .expand with .flat, FDL_E_OOM. */
FDL_API char *fdl_graph_dot_opt(fdl_module *g, const fdl_graph_draw_opts *opts);

/* ---- SVG ----------------------------------------------------------------------------------------------- */

/* The same drawing laid out, as one <svg> element that stands by itself or within HTML; dark where the reader prefers dark
 * (prefers-color-scheme). Text, owned (free). Graphs of more than some thousand nodes are laid out level by level with
 * straight edges, in seconds. A flodl built without libgraphviz: FDL_E_UNSUPPORTED; a layout that fails: FDL_E_STATE with
 * the library's text. One call at a time in the process, others wait: the library isn't made for threads. */
FDL_API char *fdl_graph_svg_text_opt(fdl_module *g, const fdl_graph_draw_opts *opts);
/* The same to a file, which is there complete or not at all. FDL_E_IO: it can't be written. */
FDL_API fdl_status fdl_graph_svg_opt(fdl_module *g, const char *file, const fdl_graph_draw_opts *opts);

/* ---- curves --------------------------------------------------------------------------------------------- */

/* n trends (NULL: one without points) with their names as a page in one file that needs no network: a line each over the
 * epochs from 1, with the values under the pointer; NaN and infinities are gaps. Light or dark as the reader prefers. No point
 * at all: FDL_E_ARG; FDL_E_IO. */
FDL_API fdl_status fdl_plot_html(const char *file, const char *title, int n, const char *const *names,
                                 const fdl_trend *const *trends);
/* `fdl_graph_plot_html(g, "curves.html", "loss", "encoder.loss")`: such a page of a graph's metrics (observe.h), an epoch a
 * round of flushes: names of metrics, of groups, and paths into the graphs below; none: all of g's own. Names without points are
 * left out; nothing left: FDL_E_STATE, flush first. */
FDL_API fdl_status fdl_graph_plot_html_of(fdl_module *g, const char *file, int n, const char *const *names);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_graph_dot(...) fdl_graph_dot_(__VA_ARGS__, .opts_ = 0)
#define fdl_graph_dot_(g, ...) fdl_graph_dot_opt(g, &(fdl_graph_draw_opts){__VA_ARGS__})
#define fdl_graph_svg_text(...) fdl_graph_svg_text_(__VA_ARGS__, .opts_ = 0)
#define fdl_graph_svg_text_(g, ...) fdl_graph_svg_text_opt(g, &(fdl_graph_draw_opts){__VA_ARGS__})
#define fdl_graph_svg(g, ...) fdl_graph_svg_(g, __VA_ARGS__, .opts_ = 0)
#define fdl_graph_svg_(g, file, ...) fdl_graph_svg_opt(g, file, &(fdl_graph_draw_opts){__VA_ARGS__})
#define fdl_graph_plot_html(g, ...) FDL_DRAW_NAMES_(fdl_graph_plot_html_of, g, __VA_ARGS__, )
#define FDL_DRAW_NAMES_(f, g, file, ...) \
    FDL_DRAW_LIST_(FDL_CAT(fdl_names_, __COUNTER__), f, g, file, __VA_ARGS__)
#define FDL_DRAW_LIST_(v, f, g, file, ...)                  \
    __extension__({                                         \
        const char *const v[] = {NULL, __VA_ARGS__};        \
        f(g, file, (int)(sizeof v / sizeof *v) - 1, v + 1); \
    })
#endif

#endif
