/* DOT text laid out as SVG by libgraphviz, the one file that knows it. The library keeps its state per process and isn't made
 * for threads: one call at a time. */
#include "draw_private.h"

#include "flodl/file.h"

#ifdef FLODL_GRAPHVIZ

#include <graphviz/cgraph.h>
#include <graphviz/gvc.h>
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Made once and kept: the library's text plugin remembers the font of the last drawing, whose name lives in here. */
static GVC_t *context;
static char complaint[512]; /* what the library said in the call that holds the lock */

static int note_complaint(char *text)
{
    size_t used = strlen(complaint);
    snprintf(complaint + used, sizeof complaint - used, "%s", text);
    return 0;
}

/* Colours for readers who prefer dark, in place of those of the drawing; nodes keep theirs. The library fills the boxes of
 * levels with the background. */
static const char style[] =
    "<style>.flodl .level path{fill:none}@media (prefers-color-scheme: dark) {"
    ".flodl>polygon{fill:#1b1f24}"
    ".flodl>text{fill:#e6edf3}"
    ".flodl .data path{stroke:#b8c4d0}.flodl .data polygon{fill:#b8c4d0;stroke:#b8c4d0}"
    ".flodl .ref path{stroke:#5dade2}.flodl .ref polygon{fill:#5dade2;stroke:#5dade2}.flodl .ref "
    "text{fill:#85c1e9}"
    ".flodl .state path{stroke:#f0954a}.flodl .state polygon{fill:#f0954a;stroke:#f0954a}"
    ".flodl .state text{fill:#f5b041}"
    ".flodl .again path{stroke:#bb8fce}.flodl .again polygon{fill:#bb8fce;stroke:#bb8fce}"
    ".flodl .level path{stroke:#6e7781}.flodl .level text{fill:#9aa5b1}"
    ".flodl .inside path{fill-opacity:.15}.flodl .inside text{fill:#e6edf3}"
    "}</style>\n";

/* From "<svg" on, with the style behind that tag. Owned; NULL: no memory. */
static char *with_style(const char *svg, size_t size)
{
    const char *from = strstr(svg, "<svg"), *inside = from ? strchr(from, '>') : NULL;
    if (!inside)
        return NULL;
    inside++;
    size_t before = (size_t)(inside - from), after = size - (size_t)(inside - svg);
    char *text = malloc(before + sizeof style + after + 1);
    if (!text)
        return NULL;
    memcpy(text, from, before);
    memcpy(text + before, style, sizeof style - 1);
    memcpy(text + before + sizeof style - 1, inside, after);
    text[before + sizeof style - 1 + after] = 0;
    return text;
}

/* What the library has to say against the layout or the labels stands in complaint. */
static char *lay_out(const char *dot, bool placed)
{
    if (!context)
        context = gvContext();
    Agraph_t *g = context ? agmemread(dot) : NULL;
    char *svg = NULL, *text = NULL;
    unsigned size = 0;
    if (g && gvLayout(context, g, placed ? "nop" : "dot") == 0) {
        if (gvRenderData(context, g, "svg", &svg, &size) == 0)
            text = with_style(svg, size);
        gvFreeRenderData(svg);
        gvFreeLayout(context, g);
    }
    if (g)
        agclose(g);
    return text;
}

/* NULL, or the SVG text; the lock is held. */
static char *lay_out_alone(const char *dot, bool placed)
{
    *complaint = 0;
    agusererrf before = agseterrf(note_complaint);
    agerrlevel_t level = agseterr(AGERR);
    char *text = lay_out(dot, placed);
    agseterr(level);
    agseterrf(before);
    if (text && !*complaint)
        return text;
    free(text);
    return fdl_fail_null(FDL_E_STATE, "fdl_graph_svg: libgraphviz can't lay the graph out: %s",
                         *complaint ? complaint : "it gives no reason");
}

char *fdl_graph_svg_text_opt(fdl_module *g, const fdl_graph_draw_opts *opts)
{
    bool placed = false;
    char *dot = dot_for_layout(g, opts, "fdl_graph_svg", &placed);
    if (!dot)
        return NULL;
    pthread_mutex_lock(&lock);
    char *text = lay_out_alone(dot, placed);
    pthread_mutex_unlock(&lock);
    free(dot);
    return text;
}

#else

char *fdl_graph_svg_text_opt(fdl_module *g, const fdl_graph_draw_opts *opts)
{
    (void)opts;
    if (!graph_of("fdl_graph_svg", g))
        return NULL;
    return fdl_fail_null(
        FDL_E_UNSUPPORTED,
        "fdl_graph_svg: this flodl was built without libgraphviz: install libgraphviz-dev "
        "(apt-get install libgraphviz-dev) and build it anew; or give the text of fdl_graph_dot to "
        "Graphviz's dot, there or elsewhere");
}

#endif

fdl_status fdl_graph_svg_opt(fdl_module *g, const char *file, const fdl_graph_draw_opts *opts)
{
    if (!file)
        return fdl_null_operand("fdl_graph_svg", "file");
    char *text = fdl_graph_svg_text_opt(g, opts);
    if (!text)
        return fdl_error_pending();
    fdl_status status = fdl_file_save(file, text, strlen(text));
    free(text);
    return status;
}
