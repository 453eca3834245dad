#include <math.h>
#include <string.h>

#include "steps.h"

static void put(int width, const char *format, double value)
{
    char text[32];
    snprintf(text, sizeof text, format, value);
    printf("%*s", width, isnan(value) ? "-" : text);
}

static double median_of(const steps_case *c, const double *values)
{
    side copy = {0};
    memcpy(copy.read, values, sizeof *values * (size_t)c->rounds);
    return steps_seconds(c, &copy);
}

/* ---- one case ------------------------------------------------------------------------------------------------- */

static const char *const columns[] = {"loss read", "not read", "ours/this", "peak MB",
                                      "held MB",   "busy",     "busy sum",  "kernels"};
enum { COLUMNS = sizeof columns / sizeof *columns };

static void print_side(const steps_case *c, const side *s, const side *best)
{
    printf("  %-8s%-16s", s->kind->side, s->kind->mode);
    if (*s->refusal) {
        printf("   %s\n", s->refusal);
        return;
    }
    put(11, "%.1f", steps_seconds(c, s) * 1e6);
    put(11, "%.1f", median_of(c, s->run) * 1e6);
    put(11, "%.3f", steps_ratio(c, best, s));
    put(11, "%.1f", s->memory / 1e6);
    put(11, "%.1f", s->reserved / 1e6);
    put(11, "%.1f", s->busy.busy * 1e6);
    put(11, "%.1f", s->busy.sum * 1e6);
    put(11, "%.1f", s->busy.kernels);
    putchar('\n');
}

static double class_seconds(const side *s, const char *name)
{
    for (int i = 0; i < s->busy.classes; i++)
        if (strcmp(s->busy.of[i].name, name) == 0)
            return s->busy.of[i].seconds;
    return 0;
}

/* Microseconds of each class of kernels, a column a side. */
static void print_classes(const steps_case *c)
{
    const char *const *names = kernel_class_names();
    bool any = false;
    for (int i = 0; i < c->n; i++)
        any |= c->sides[i].busy.classes > 0;
    if (!any || !names)
        return;
    printf("  %-18s", "us in kernels of");
    for (int i = 0; i < c->n; i++)
        printf(" %5.5s %-9.9s", c->sides[i].kind->side, c->sides[i].kind->mode);
    putchar('\n');
    for (; *names; names++) {
        double most = 0;
        for (int i = 0; i < c->n; i++)
            most = fmax(most, class_seconds(&c->sides[i], *names));
        if (!(most > 0))
            continue;
        printf("  %-18s", *names);
        for (int i = 0; i < c->n; i++)
            put(16, "%.1f",
                c->sides[i].busy.classes ? class_seconds(&c->sides[i], *names) * 1e6 : (double)NAN);
        putchar('\n');
    }
}

void steps_print_case(const steps_case *c)
{
    printf("\n%s: %s\n  %.2f M parameters, batch %lld, first loss %.6g; measured in %.0f s\n", c->m->name,
           c->m->what, (double)c->params / 1e6, (long long)c->batch, c->sides[0].losses[0], c->seconds);
    printf("  %-24s", "us a step");
    for (int i = 0; i < COLUMNS; i++)
        printf("%11s", columns[i]);
    putchar('\n');
    const side *best = steps_fastest(c, "flodl");
    for (int i = 0; i < c->n; i++)
        print_side(c, &c->sides[i], best);
    print_classes(c);
    fflush(stdout);
}

/* ---- all cases ------------------------------------------------------------------------------------------------ */

static void print_name(const steps_case *c, int width)
{
    char text[64];
    snprintf(text, sizeof text, c->samples ? "%s/%lld" : "%s", c->m->name, (long long)c->samples);
    printf("%-*s", width, text);
}

void steps_print_summary(const steps_bench *b, const steps_case *cases, int n)
{
    printf("\n%-18s", "us, loss read");
    for (int k = 0; k < b->n_kinds; k++)
        printf(" %4.4s %-9.9s", b->kinds[k].side, b->kinds[k].mode);
    printf("%12s%12s%14s\n", "best/best", "its busy", "trainer/busy");
    for (int i = 0; i < n; i++) {
        const steps_case *c = &cases[i];
        const side *ours = steps_fastest(c, "flodl"), *trainer = steps_side(c, "flodl", "trainer");
        print_name(c, 18);
        for (int k = 0; k < b->n_kinds; k++)
            put(15, "%.1f", steps_seconds(c, steps_side(c, b->kinds[k].side, b->kinds[k].mode)) * 1e6);
        put(12, "%.3f", steps_ratio(c, ours, steps_fastest(c, "pytorch")));
        put(12, "%.1f", trainer ? trainer->busy.busy * 1e6 : (double)NAN);
        put(14, "%.3f", trainer ? steps_seconds(c, trainer) / trainer->busy.busy : (double)NAN);
        putchar('\n');
    }
}

void steps_print_bars(const steps_bench *b, const steps_case *cases, int n)
{
    printf("\nwhat should hold\n");
    for (int k = 0; k < b->n_bars; k++) {
        const steps_bar *bar = &b->bars[k];
        int held = 0, measured = 0;
        for (int i = 0; i < n; i++) {
            const double value = bar->value(&cases[i]);
            measured += !isnan(value);
            held += value <= bar->most;
        }
        const bool enough = held == measured || (bar->of_ten && held * 10 >= bar->of_ten * measured);
        printf("  %-14s %s: %d of %d",
               measured == 0 ? "not measured"
               : enough      ? "holds"
                             : "DOES NOT HOLD",
               bar->what, held, measured);
        for (int i = 0; i < n; i++) {
            const double value = bar->value(&cases[i]);
            if (!isnan(value) && !(value <= bar->most)) {
                printf("; ");
                print_name(&cases[i], 0);
                printf(" %.3f", value);
            }
        }
        putchar('\n');
    }
}

/* ---- raw figures ---------------------------------------------------------------------------------------------- */

static void json_side(json *j, const steps_case *c, const side *s)
{
    json_begin(j, NULL, '{');
    json_text(j, "side", s->kind->side);
    json_text(j, "mode", s->kind->mode);
    if (*s->refusal) {
        json_text(j, "refusal", s->refusal);
        json_end(j, '}');
        return;
    }
    json_text(j, "version", s->version);
    json_numbers(j, "losses", s->losses, s->n_losses);
    json_count(j, "steps", s->steps);
    json_numbers(j, "read_s", s->read, c->rounds);
    json_numbers(j, "run_s", s->run, c->rounds);
    json_number(j, "peak_bytes", s->memory);
    json_number(j, "reserved_bytes", s->reserved);
    const side_busy *b = &s->busy;
    if (!isnan(b->busy)) {
        json_begin(j, "device", '{');
        json_number(j, "busy_s", b->busy);
        json_number(j, "sum_s", b->sum);
        json_number(j, "kernels", b->kernels);
        json_number(j, "copies", b->copies);
        json_number(j, "fills", b->fills);
        json_begin(j, "classes", '{');
        for (int i = 0; i < b->classes; i++) {
            json_begin(j, b->of[i].name, '[');
            json_number(j, NULL, b->of[i].seconds);
            json_number(j, NULL, b->of[i].n);
            json_end(j, ']');
        }
        json_end(j, '}');
        json_end(j, '}');
    }
    json_end(j, '}');
}

void steps_json_case(json *j, const steps_case *c)
{
    json_begin(j, NULL, '{');
    json_text(j, "name", c->m->name);
    json_text(j, "what", c->m->what);
    json_count(j, "batch", c->batch);
    json_count(j, "parameters", c->params);
    json_begin(j, "sides", '[');
    for (int i = 0; i < c->n; i++) {
        json_line(j);
        json_side(j, c, &c->sides[i]);
    }
    json_end(j, ']');
    json_end(j, '}');
}
