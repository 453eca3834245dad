/* A profile as a table, as a picture, and the colours of it. */
#include "draw_private.h"
#include "profile.h"

#include <math.h>

static void write_row(FILE *out, const fdl_profile *p, const fdl_profile_node *n)
{
    char name[256], time[64], host[64], share[64];
    size_t used = (size_t)snprintf(name, sizeof name, "%s", n->id);
    for (int i = 0; i < n->tags && used < sizeof name; i++)
        used += (size_t)snprintf(name + used, sizeof name - used, " #%s", n->tag[i]);
    decimals_text(p->seconds > 0 ? 100 * n->seconds / p->seconds : 0, 1, share, sizeof share);
    fprintf(out, "  %-32s %10s %10s %6s%%\n", name, time_text(n->seconds, time, sizeof time),
            time_text(n->host_seconds, host, sizeof host), share);
}

static void write_table(FILE *out, const fdl_profile *p)
{
    char time[64], host[64], share[64];
    fprintf(out, "forward: %s, on the host %s; %d nodes on %d levels%s\n",
            time_text(p->seconds, time, sizeof time), time_text(p->host_seconds, host, sizeof host), p->nodes,
            p->levels, p->on_device ? "; times are the device's" : "");
    fprintf(out, "  %-32s %10s %10s %7s\n", "node", "time", "host", "share");
    int from = 0;
    for (int i = 0; i < p->levels; i++) {
        const fdl_profile_level *l = &p->level[i];
        fprintf(out, "level %d: %s", l->level, time_text(l->seconds, time, sizeof time));
        if (l->nodes > 1)
            fprintf(out, ", %d nodes, x%s", l->nodes, decimals_text(l->parallelism, 1, share, sizeof share));
        fputc('\n', out);
        for (int k = from; k < from + l->nodes; k++)
            write_row(out, p, &p->node[k]);
        from += l->nodes;
    }
}

char *fdl_profile_text(const fdl_profile *p)
{
    if (!p) {
        fdl_null_operand(__func__, "p");
        return NULL;
    }
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out)
        write_table(out, p);
    bool whole = out && !ferror(out);
    if (out && fclose(out) == 0 && whole)
        return text;
    free(text);
    return fdl_fail_null(FDL_E_OOM, "fdl_profile_text: no memory for the table");
}

char *fdl_profile_color(double r, char *buf, size_t n)
{
    static const int stops[3][3] = {{0x27, 0xae, 0x60}, {0xf3, 0x9c, 0x12}, {0xe7, 0x4c, 0x3c}};
    r = r > 0 ? fmin(r, 1) : 0;
    int from = r < 0.5 ? 0 : 1, c[3];
    double t = 2 * r - from;
    for (int i = 0; i < 3; i++)
        c[i] = (int)(stops[from][i] + (stops[from + 1][i] - stops[from][i]) * t);
    snprintf(buf, n, "#%02x%02x%02x", c[0] & 255, c[1] & 255, c[2] & 255);
    return buf;
}

char *fdl_graph_dot_profile(fdl_module *g)
{
    return fdl_graph_dot_opt(g, &(fdl_graph_draw_opts){.profile = true});
}

fdl_status fdl_graph_svg_profile(fdl_module *g, const char *file)
{
    return fdl_graph_svg_opt(g, file, &(fdl_graph_draw_opts){.profile = true});
}
