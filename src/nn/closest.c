/* Names that are alike, for errors about a name that isn't there. */
#include "module_private.h"

/* Levenshtein's distance of the first 64 characters. */
static int distance(const char *a, const char *b)
{
    enum { MOST = 64 };
    int n = (int)strnlen(a, MOST), m = (int)strnlen(b, MOST), row[MOST + 1];
    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= n; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (corner + 1 < best)
                best = corner + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

const char *closest_names(const char *name, int n, const char *(*at)(const void *list, int i),
                          const void *list, char *buf, size_t size)
{
    enum { SHOWN = 3 };
    struct {
        int i, far;
    } best[SHOWN + 1];
    int shown = 0;
    for (int i = 0; i < n; i++) {
        int far = distance(name, at(list, i)), k = shown;
        for (; k > 0 && best[k - 1].far > far; k--)
            best[k] = best[k - 1];
        best[k].i = i;
        best[k].far = far;
        if (shown < SHOWN)
            shown++;
    }
    size_t used = 0;
    buf[0] = 0;
    for (int k = 0; k < shown && used < size; k++)
        used += (size_t)snprintf(buf + used, size - used, "%s%s%s",
                                 k ? ", " : " (closest: ", at(list, best[k].i), k + 1 == shown ? ")" : "");
    return buf;
}
