/* A graph as DOT text: what is shown of it, then its nodes level by level, then its edges. */
#include "draw_private.h"
#include "profile.h"

/* ---- what is shown ------------------------------------------------------------------------------------- */

/* A part of a shown node: the graph inside a node, or a child of a step. */
typedef struct part {
    const char *name; /* NULL: the graph is the node's own module */
    fdl_module *module;
    struct view *inner; /* the graph is drawn */
} part;

typedef struct shown {
    int parts; /* 0: one shape */
    part *part;
} shown;

typedef struct view {
    const graph *g;
    shown *node; /* as g's, in order of creation */
} view;

/* Shared graphs may hold each other so that whole they are beyond all bounds: more nodes than this are not opened. */
enum { most_inside = 20000 };

typedef struct drawing {
    FILE *out;
    fdl_graph_draw_opts opts;
    arena memory;
    int inside;     /* nodes drawn within nodes */
    place *at;      /* of each node, in order of creation; NULL: libgraphviz finds them */
    double longest; /* the time of the node with the hottest colour */
} drawing;

/* Where a shown node stands: the names before its own. */
typedef struct path {
    const struct path *up;
    const char *name;
} path;

static view *view_of(drawing *d, const graph *g);

static bool show_part(drawing *d, part *p)
{
    const graph *g = graph_or_null(p->module);
    if (!g || !d->opts.expand || g->nodes > most_inside - d->inside)
        return true;
    d->inside += g->nodes;
    return (p->inner = view_of(d, g)) != NULL;
}

static bool show(drawing *d, const graph_node *node, shown *s)
{
    bool choice = node->type->look == LOOK_CHOICE;
    fdl_module *m = node->module ? node->module->real : NULL;
    if (!m || d->opts.flat || !(choice || d->opts.expand))
        return true;
    if (!choice && graph_or_null(m)) {
        part whole = {.module = m};
        if (!show_part(d, &whole))
            return false;
        if (!whole.inner)
            return true;
        s->part = arena_alloc(&d->memory, sizeof whole);
        if (s->part)
            *s->part = whole;
        s->parts = 1;
        return s->part;
    }
    if (!step_type_of(m) || m->children.n == 0 || m->children.n > most_inside - d->inside)
        return true;
    s->parts = m->children.n;
    d->inside += s->parts;
    s->part = arena_alloc(&d->memory, sizeof *s->part * (size_t)s->parts);
    for (int i = 0; s->part && i < s->parts; i++) {
        s->part[i] = (part){.name = m->children.names[i], .module = m->children.at[i]->real};
        if (!(choice && i == 0) && !show_part(d, &s->part[i]))
            return false;
    }
    return s->part;
}

static view *view_of(drawing *d, const graph *g)
{
    view *v = arena_alloc(&d->memory, sizeof *v);
    if (!v || !(v->node = arena_alloc(&d->memory, sizeof *v->node * (size_t)g->nodes)))
        return NULL;
    v->g = g;
    for (int k = 0; k < g->nodes; k++)
        if (!show(d, &g->node[k], &v->node[k]))
            return NULL;
    return v;
}

static bool is_choice(const view *v, int k)
{
    return v->node[k].parts && v->g->node[k].type->look == LOOK_CHOICE;
}

/* ---- names --------------------------------------------------------------------------------------------- */

static void write_path(FILE *out, const path *at)
{
    if (!at)
        return;
    write_path(out, at->up);
    write_name(out, at->name);
    fputc('/', out);
}

static void write_node_name(FILE *out, const path *at, const char *name)
{
    fputc('"', out);
    write_path(out, at);
    write_name(out, name);
    fputc('"', out);
}

/* Which of child's inputs the node's port leads to. */
static int child_input(const graph *child, const graph_node *node, int port)
{
    for (int i = 1; port >= node->inputs && i < child->inputs; i++)
        if (strcmp(child->input[i].name, node->ref_names[port - node->inputs]) == 0)
            return i;
    return 0;
}

/* The name of the shape to which an edge into a port of node k goes. */
static void write_entry(FILE *out, const view *v, const path *at, int k, int port)
{
    const graph_node *node = &v->g->node[k];
    const shown *s = &v->node[k];
    if (!s->parts || is_choice(v, k)) {
        write_node_name(out, at, node->id);
        return;
    }
    path here = {at, node->id}, named = {&here, s->part->name};
    const path *inside = s->part->name ? &named : &here;
    if (!s->part->inner) {
        write_node_name(out, &here, s->part->name);
        return;
    }
    const graph *child = s->part->inner->g;
    write_entry(out, s->part->inner, inside, child->input[child_input(child, node, port)].node, 0);
}

static void write_exit(FILE *out, const view *v, const path *at, int k)
{
    const graph_node *node = &v->g->node[k];
    const shown *s = &v->node[k];
    path here = {at, node->id}, named = {&here, s->parts ? s->part->name : NULL};
    if (!s->parts)
        write_node_name(out, at, node->id);
    else if (is_choice(v, k))
        write_node_name(out, &here, "join");
    else if (!s->part->inner)
        write_node_name(out, &here, s->part->name);
    else
        write_exit(out, s->part->inner, s->part->name ? &named : &here, s->part->inner->g->output);
}

/* ---- labels -------------------------------------------------------------------------------------------- */

static void write_count(FILE *out, int64_t n)
{
    char text[64];
    if (n >= 1000000)
        fprintf(out, "%sM", decimals_text((double)n / 1e6, 1, text, sizeof text));
    else if (n >= 1000)
        fprintf(out, "%sK", decimals_text((double)n / 1e3, 1, text, sizeof text));
    else
        fprintf(out, "%lld", (long long)n);
}

static void begin_small(FILE *out, const char *colour)
{
    fprintf(out, "<FONT POINT-SIZE=\"9\" COLOR=\"%s\">", colour);
}

/* Of small text in a node: on the strong colours of times it is black. */
static const char *quiet(const drawing *d, const char *colour)
{
    return d->opts.profile && d->longest > 0 ? "#1c2833" : colour;
}

/* A line for a module that has any. */
static fdl_status write_params(drawing *d, fdl_module *m)
{
    FDL_SCOPE;
    FILE *out = d->out;
    int64_t n = fdl_params_numel(fdl_parameters(m));
    if (n < 0)
        return fdl_error_pending();
    if (n == 0)
        return FDL_OK;
    fputs("<BR/>", out);
    begin_small(out, quiet(d, "#566573"));
    fputc('[', out);
    write_count(out, n);
    fputs(n == 1 ? " param]</FONT>" : " params]</FONT>", out);
    return FDL_OK;
}

/* An id without its number. */
static void write_kind(drawing *d, const graph_node *node)
{
    const char *end = strrchr(node->id, '_');
    char *kind = arena_text(&d->memory, "%.*s", end ? (int)(end - node->id) : 1000, node->id);
    char note[64] = "";
    if (node->type->note)
        node->type->note(node, note, sizeof note);
    fputs("<B>", d->out);
    if (kind)
        write_xml(d->out, kind);
    if (*note) {
        fputc(' ', d->out);
        write_xml(d->out, note);
    }
    fputs("</B>", d->out);
}

/* A node's times; NULL: they aren't drawn, or there are none. */
static const fdl_profile_node *profile_of(const drawing *d, const graph *g, int k)
{
    const fdl_profile *f = d->opts.profile ? graph_profile(g) : NULL;
    return f ? &f->node[g->node[k].place] : NULL;
}

static fdl_status write_label(drawing *d, const graph *g, int k)
{
    const graph_node *node = &g->node[k];
    const graph *child = node->module ? graph_or_null(node->module) : NULL;
    write_kind(d, node);
    if (child && child->label) {
        fputs("<BR/>", d->out);
        write_xml(d->out, child->label);
    }
    for (int i = 0; i < g->tags; i++)
        if (g->tag[i].node == k) {
            fputs("<BR/>", d->out);
            begin_small(d->out, quiet(d, "#1a5276"));
            fputc('#', d->out);
            write_xml(d->out, g->tag[i].name);
            fputs("</FONT>", d->out);
        }
    const fdl_profile_node *timed = profile_of(d, g, k);
    char text[64];
    if (timed) {
        fputs("<BR/>", d->out);
        begin_small(d->out, "#1c2833");
        fprintf(d->out, "%s</FONT>", time_text(timed->seconds, text, sizeof text));
    }
    return node->module ? write_params(d, node->module) : FDL_OK;
}

/* How node k looks; heat: room for its colour. */
static look look_with_time(const drawing *d, const graph *g, int k, bool top, char heat[8])
{
    look l = look_of_node(g, k, top);
    const fdl_profile_node *timed = profile_of(d, g, k);
    if (timed)
        l.fill = fdl_profile_color(d->longest > 0 ? timed->seconds / d->longest : 0, heat, 8);
    return l;
}

/* ---- nodes --------------------------------------------------------------------------------------------- */

static void write_look(FILE *out, look l)
{
    char outline[8];
    fprintf(out, "shape=%s", l.shape);
    if (strcmp(l.shape, "box") == 0)
        fputs(", style=\"filled,rounded\"", out);
    else if (!strstr("ellipse box3d parallelogram", l.shape)) /* these have room at their corners */
        fprintf(out, ", margin=\"%s\"", strcmp(l.shape, "diamond") == 0 ? "0.05,0.03" : "0.02");
    fprintf(out, ", fillcolor=\"%s\", color=\"%s\"];\n", l.fill, outline_of(l.fill, outline));
}

/* A cluster's label. As wide as the cell at least, so that edges into the middle pass it by. */
static void begin_title(FILE *out)
{
    fputs("labeljust=l; label=<<TABLE BORDER=\"0\" CELLBORDER=\"0\" CELLPADDING=\"0\" CELLSPACING=\"0\"><TR>"
          "<TD WIDTH=\"128\" ALIGN=\"LEFT\" BALIGN=\"LEFT\">",
          out);
}

static void end_title(FILE *out)
{
    fputs("</TD></TR></TABLE>>;\n", out);
}

static void begin_cluster(FILE *out, const path *at, const char *name, const char *fill)
{
    char outline[8];
    fputs("subgraph \"cluster ", out);
    write_path(out, at);
    write_name(out, name);
    fprintf(out, "\" {\nclass=inside; style=\"rounded,filled\"; fillcolor=\"%s40\"; color=\"%s\"; ", fill,
            outline_of(fill, outline));
    begin_title(out);
}

static fdl_status write_nodes(drawing *d, const view *v, const path *at);

/* What a step holds: a shape, or the graph inside in a box. */
static fdl_status write_part(drawing *d, const path *at, const part *p)
{
    path here = {at, p->name};
    look l = look_of_module(p->module);
    if (p->inner) {
        begin_cluster(d->out, at, p->name, l.fill);
        write_xml(d->out, p->name);
        end_title(d->out);
        FDL_TRY(write_nodes(d, p->inner, &here));
        fputs("}\n", d->out);
        return FDL_OK;
    }
    const graph *g = graph_or_null(p->module);
    write_node_name(d->out, at, p->name);
    fputs(" [label=<<B>", d->out);
    write_xml(d->out, p->name);
    fputs("</B><BR/>", d->out);
    write_xml(d->out, g && g->label ? g->label : fdl_module_kind(p->module));
    FDL_TRY(write_params(d, p->module));
    fputs(">, ", d->out);
    write_look(d->out, l);
    return FDL_OK;
}

static fdl_status write_choice(drawing *d, const view *v, const path *at, int k)
{
    FILE *out = d->out;
    const graph_node *node = &v->g->node[k];
    const shown *s = &v->node[k];
    path here = {at, node->id};
    char heat[8];
    look l = look_with_time(d, v->g, k, !at, heat);
    begin_cluster(out, at, node->id, l.fill);
    FDL_TRY(write_label(d, v->g, k));
    end_title(out);
    write_node_name(out, at, node->id);
    fputs(" [label=<<B>", out);
    write_xml(out, s->part[0].name);
    fputs("</B><BR/>", out);
    write_xml(out, fdl_module_kind(s->part[0].module));
    FDL_TRY(write_params(d, s->part[0].module));
    fputs(">, ", out);
    write_look(out, (look){"diamond", l.fill});
    for (int i = 1; i < s->parts; i++)
        FDL_TRY(write_part(d, &here, &s->part[i]));
    write_node_name(out, &here, "join");
    fputs(" [label=<join>, ", out);
    write_look(out, (look){"circle", "#d5dbdb"});
    fputs("}\n", out);
    return FDL_OK;
}

static fdl_status write_inside(drawing *d, const view *v, const path *at, int k)
{
    const graph_node *node = &v->g->node[k];
    const shown *s = &v->node[k];
    path here = {at, node->id};
    char heat[8];
    begin_cluster(d->out, at, node->id, look_with_time(d, v->g, k, false, heat).fill);
    FDL_TRY(write_label(d, v->g, k));
    end_title(d->out);
    if (s->part->name)
        for (int i = 0; i < s->parts; i++)
            FDL_TRY(write_part(d, &here, &s->part[i]));
    else
        FDL_TRY(write_nodes(d, s->part->inner, &here));
    fputs("}\n", d->out);
    return FDL_OK;
}

static fdl_status write_node(drawing *d, const view *v, const path *at, int k)
{
    if (is_choice(v, k))
        return write_choice(d, v, at, k);
    if (v->node[k].parts)
        return write_inside(d, v, at, k);
    write_node_name(d->out, at, v->g->node[k].id);
    fputs(" [label=<", d->out);
    FDL_TRY(write_label(d, v->g, k));
    fputs(">, ", d->out);
    if (d->at)
        fprintf(d->out, "pos=\"%lld,%lld\", ", (long long)d->at[k].x, (long long)d->at[k].y);
    char heat[8];
    write_look(d->out, look_with_time(d, v->g, k, !at, heat));
    return FDL_OK;
}

/* In order of execution. */
static fdl_status write_nodes(drawing *d, const view *v, const path *at)
{
    for (int p = 0; p < v->g->nodes; p++)
        FDL_TRY(write_node(d, v, at, v->g->plan[p].node));
    return FDL_OK;
}

/* ---- levels -------------------------------------------------------------------------------------------- */

/* State and further inputs that are read far down stand by their readers, outside of the box of level 0: level by level
 * their edges would run along the whole drawing. */
static bool stands_apart(const graph *g, int k)
{
    const graph_node *node = &g->node[k];
    if (node->module || node->level || k == g->output)
        return false;
    int nearest = g->nodes;
    for (int e = 0; e < g->edges; e++)
        if (g->edge[e].from == k && g->node[g->edge[e].to].level < nearest)
            nearest = g->node[g->edge[e].to].level;
    return nearest > 1 && nearest < g->nodes;
}

static void write_rank(drawing *d, const view *v, int from, int to)
{
    int n = 0;
    for (int p = from; p < to; p++)
        n += !v->node[v->g->plan[p].node].parts && !stands_apart(v->g, v->g->plan[p].node);
    if (n < 2)
        return;
    fputs("{rank=same;", d->out);
    for (int p = from; p < to; p++) {
        int k = v->g->plan[p].node;
        if (v->node[k].parts || stands_apart(v->g, k))
            continue;
        fputc(' ', d->out);
        write_node_name(d->out, NULL, v->g->node[k].id);
        fputc(';', d->out);
    }
    fputs("}\n", d->out);
}

static void write_level_time(drawing *d, const graph *g, int level)
{
    const fdl_profile *f = d->opts.profile ? graph_profile(g) : NULL;
    char text[64];
    if (!f)
        return;
    const fdl_profile_level *l = &f->level[level];
    fprintf(d->out, "<BR/>%s", time_text(l->seconds, text, sizeof text));
    if (l->nodes > 1)
        fprintf(d->out, " x%s", decimals_text(l->parallelism, 1, text, sizeof text));
}

static fdl_status write_levels(drawing *d, const view *v)
{
    const graph *g = v->g;
    for (int from = 0, to; from < g->nodes; from = to) {
        int level = g->node[g->plan[from].node].level;
        for (to = from; to < g->nodes && g->node[g->plan[to].node].level == level; to++)
            if (stands_apart(g, g->plan[to].node))
                FDL_TRY(write_node(d, v, NULL, g->plan[to].node));
        fprintf(d->out,
                "subgraph cluster_level_%d {\nclass=level; style=\"dashed,rounded\"; color=\"#aeb6bf\"; ",
                level);
        begin_title(d->out);
        begin_small(d->out, "#717d89");
        fprintf(d->out, "level %d", level);
        write_level_time(d, g, level);
        fputs("</FONT>", d->out);
        end_title(d->out);
        for (int p = from; p < to; p++)
            if (!stands_apart(g, g->plan[p].node))
                FDL_TRY(write_node(d, v, NULL, g->plan[p].node));
        write_rank(d, v, from, to);
        fputs("}\n", d->out);
    }
    return FDL_OK;
}

/* ---- edges --------------------------------------------------------------------------------------------- */

static void write_edges(drawing *d, const view *v, const path *at);

static void write_arrow(drawing *d, const view *v, const path *at, const graph_edge *e)
{
    const graph_node *to = &v->g->node[e->to];
    if (to->type->idle && to->type->idle(to, e->port))
        return;
    write_exit(d->out, v, at, e->from);
    fputs(" -> ", d->out);
    write_entry(d->out, v, at, e->to, e->port);
    if (e->port >= to->inputs) {
        fputs(" [class=ref, style=dashed, color=\"#2980b9\", fontcolor=\"#2980b9\", label=<&#160;", d->out);
        write_xml(d->out, to->ref_names[e->port - to->inputs]);
        fputs(">]", d->out);
    }
    fputs(";\n", d->out);
}

/* Into what a step holds. */
static void write_part_entry(FILE *out, const path *here, const part *p)
{
    path named = {here, p->name};
    if (p->inner)
        write_entry(out, p->inner, &named, p->inner->g->input[0].node, 0);
    else
        write_node_name(out, here, p->name);
}

static void write_edges_inside(drawing *d, const view *v, const path *at, int k)
{
    const shown *s = &v->node[k];
    path here = {at, v->g->node[k].id};
    for (int i = 0; i < s->parts; i++) {
        path named = {&here, s->part[i].name};
        if (s->part[i].inner)
            write_edges(d, s->part[i].inner, s->part[i].name ? &named : &here);
    }
    if (is_choice(v, k))
        for (int i = 1; i < s->parts; i++) {
            const part *p = &s->part[i];
            path named = {&here, p->name};
            write_node_name(d->out, at, v->g->node[k].id);
            fputs(" -> ", d->out);
            write_part_entry(d->out, &here, p);
            fputs(";\n", d->out);
            if (p->inner)
                write_exit(d->out, p->inner, &named, p->inner->g->output);
            else
                write_node_name(d->out, &here, p->name);
            fputs(" -> ", d->out);
            write_node_name(d->out, &here, "join");
            fputs(";\n", d->out);
        }
    else if (s->parts && v->g->node[k].type->look == LOOK_LOOP) {
        write_exit(d->out, v, at, k);
        fputs(" -> ", d->out);
        write_entry(d->out, v, at, k, 0);
        fputs(" [class=again, color=\"#8e44ad\", fontcolor=\"#8e44ad\", constraint=false];\n", d->out);
        for (int i = 1; i < s->parts; i++) { /* what looks at the state */
            write_exit(d->out, v, at, k);
            fputs(" -> ", d->out);
            write_part_entry(d->out, &here, &s->part[i]);
            fputs(" [class=again, style=dashed, color=\"#8e44ad\", constraint=false];\n", d->out);
        }
    }
}

static void write_edges(drawing *d, const view *v, const path *at)
{
    for (int k = 0; k < v->g->nodes; k++)
        write_edges_inside(d, v, at, k);
    for (int e = 0; e < v->g->edges; e++)
        write_arrow(d, v, at, &v->g->edge[e]);
    for (int k = 0; k < v->g->nodes; k++)
        if (v->g->node[k].state >= 0) {
            write_exit(d->out, v, at, v->g->state[v->g->node[k].state].node);
            fputs(" -> ", d->out);
            write_node_name(d->out, at, v->g->node[k].id);
            fputs(" [class=state, style=dotted, penwidth=1.5, color=\"#e67e22\", fontcolor=\"#ca6f1e\", "
                  "label=<&#160;state>, constraint=false];\n",
                  d->out);
        }
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static const char head[] =
    "graph [class=flodl, bgcolor=\"white\", pad=0.25, nodesep=0.35, ranksep=0.4, fontsize=11, "
    "fontname=\"Helvetica,Arial,sans-serif\"];\n"
    "node [style=filled, penwidth=1, fontsize=11, height=0.36, margin=\"0.15,0.08\", fontcolor=\"#1c2833\", "
    "fontname=\"Helvetica,Arial,sans-serif\"];\n"
    "edge [class=data, color=\"#2c3e50\", arrowsize=0.7, fontsize=9, "
    "fontname=\"Helvetica,Arial,sans-serif\"];\n";

/* What libgraphviz would have to place and route: nodes, and edges by the levels that they span. */
static int64_t weight_of(const drawing *d, const graph *g)
{
    int64_t weight = g->nodes + 4 * (int64_t)d->inside;
    for (int e = 0; e < g->edges; e++) {
        int span = g->node[g->edge[e].to].level - g->node[g->edge[e].from].level;
        weight += span < 0 ? -span : span;
    }
    return weight;
}

/* Its layout takes time that grows with the square of the weight and more: two seconds for this one, minutes for three
 * times as much. */
enum { most_weight = 2500 };

static void write_title(drawing *d, const graph *g)
{
    const fdl_profile *f = d->opts.profile ? graph_profile(g) : NULL;
    char text[64];
    if (!g->label && !f)
        return;
    fputs("labelloc=t; label=<", d->out);
    if (g->label) {
        fputs("<B>", d->out);
        write_xml(d->out, g->label);
        fputs("</B>", d->out);
    }
    if (f)
        fprintf(d->out, "%stotal %s", g->label ? "&#160; " : "", time_text(f->seconds, text, sizeof text));
    fputs(">;\n", d->out);
    for (int i = 0; f && i < f->nodes; i++)
        if (f->node[i].seconds > d->longest)
            d->longest = f->node[i].seconds;
}

/* placed: NULL, or true wants positions in the text, and what it is then says whether it has them. */
static fdl_status write_dot(drawing *d, const graph *g, bool *placed)
{
    view *v = view_of(d, g);
    if (v && placed && (*placed || weight_of(d, g) > most_weight)) {
        *placed = true;
        d->opts.expand = false;
        d->opts.flat = d->opts.no_levels = true;
        v = view_of(d, g);
        d->at = v ? ranks_place(g, &d->memory) : NULL;
        v = d->at ? v : NULL;
    }
    if (!v)
        return FDL_E_OOM;
    fputs("digraph \"", d->out);
    write_name(d->out, g->label ? g->label : "graph");
    fprintf(d->out, "\" {\n%s", head);
    if (d->at)
        fputs("splines=line;\n", d->out);
    write_title(d, g);
    FDL_TRY(d->opts.no_levels ? write_nodes(d, v, NULL) : write_levels(d, v));
    write_edges(d, v, NULL);
    fputs("}\n", d->out);
    return FDL_OK;
}

static char *draw(const char *function, fdl_module *m, const fdl_graph_draw_opts *opts, bool *placed)
{
    const graph *g = graph_of(function, m);
    if (!g)
        return NULL;
    drawing d = {.opts = opts ? *opts : (fdl_graph_draw_opts){0}};
    if (d.opts.expand && d.opts.flat)
        return fdl_fail_null(FDL_E_ARG, "%s: .expand and .flat exclude each other", function);
    char *text = NULL;
    size_t size;
    d.out = open_memstream(&text, &size);
    fdl_status status = d.out ? write_dot(&d, g, placed) : FDL_E_OOM;
    bool whole = d.out && !ferror(d.out);
    if (d.out && fclose(d.out) != 0)
        whole = false;
    arena_free(&d.memory);
    if (status == FDL_OK && whole)
        return text;
    free(text);
    return fdl_fail_null(FDL_E_OOM, "%s: no memory for the drawing", function);
}

char *fdl_graph_dot_opt(fdl_module *g, const fdl_graph_draw_opts *opts)
{
    return draw("fdl_graph_dot", g, opts, NULL);
}

char *dot_for_layout(fdl_module *g, const fdl_graph_draw_opts *opts, const char *function, bool *placed)
{
    return draw(function, g, opts, placed);
}
