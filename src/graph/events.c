/* TensorBoard's event files: records of protocol buffers.
 *
 * Written here rather than through libprotobuf-c: the messages are five, they are only written, and a dozen lines (varint,
 * fixed, length-delimited) are all of the wire format that this takes; a library would add a compiler for .proto files to the build, and
 * TensorFlow's files to the repository. Likewise CRC-32C, which zlib doesn't have (its crc32 is another polynomial). What
 * TensorBoard's own writer writes is recorded in the tests, to the byte. */
#include "flodl/events.h"

#include "export.h"

#include "flodl/clock.h"
#include "flodl/file.h"
#include "flodl/text.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- bytes --------------------------------------------------------------------------------------------- */

typedef struct bytes {
    size_t n, room;
    unsigned char *at;
    bool failed; /* no memory: nothing more is added */
} bytes;

static void put(bytes *b, const void *from, size_t n)
{
    if (!b->failed && b->n + n > b->room) {
        size_t room = 2 * (b->n + n) + 64;
        unsigned char *at = realloc(b->at, room);
        if (at) {
            b->at = at;
            b->room = room;
        }
        b->failed = !at;
    }
    if (b->failed || !n)
        return;
    memcpy(b->at + b->n, from, n);
    b->n += n;
}

/* Little-endian, as the format has it on every machine. */
static void put_fixed(bytes *b, uint64_t v, int size)
{
    for (int i = 0; i < size; i++, v >>= 8)
        put(b, &(unsigned char){(unsigned char)v}, 1);
}

/* ---- protocol buffers ---------------------------------------------------------------------------------- */

enum { VARINT, FIXED64, DELIMITED, FIXED32 = 5 };

static void put_varint(bytes *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put(b, &(unsigned char){(unsigned char)(v | 0x80)}, 1);
    put(b, &(unsigned char){(unsigned char)v}, 1);
}

static void put_key(bytes *b, int field, int type)
{
    put_varint(b, (uint64_t)(field << 3 | type));
}

static void put_block(bytes *b, int field, const void *at, size_t n)
{
    put_key(b, field, DELIMITED);
    put_varint(b, n);
    put(b, at, n);
}

/* A message inside a message; frees it. */
static void put_message(bytes *b, int field, bytes *m)
{
    put_block(b, field, m->at, m->n);
    b->failed = b->failed || m->failed;
    free(m->at);
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* Fields that are 0 are left out, -0.0 isn't. */
static void put_double(bytes *b, int field, double v)
{
    if (!bits_of(v))
        return;
    put_key(b, field, FIXED64);
    put_fixed(b, bits_of(v), 8);
}

static void put_float(bytes *b, int field, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(b, field, FIXED32);
    put_fixed(b, bits, 4);
}

static void put_doubles(bytes *b, int field, int64_t n, const double *at)
{
    put_key(b, field, DELIMITED);
    put_varint(b, 8 * (uint64_t)n);
    for (int64_t i = 0; i < n; i++)
        put_fixed(b, bits_of(at[i]), 8);
}

/* ---- records ------------------------------------------------------------------------------------------- */

/* CRC-32C (Castagnoli), rotated and moved as TFRecord wants it. Bit by bit: events are small and rare. */
static uint32_t masked_crc(const unsigned char *at, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= at[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* length, its check, the event, its check */
static void put_record(bytes *to, bytes *event)
{
    size_t start = to->n;
    put_fixed(to, event->n, 8);
    if (!to->failed)
        put_fixed(to, masked_crc(to->at + start, 8), 4);
    put(to, event->at, event->n);
    put_fixed(to, masked_crc(event->at, event->n), 4);
    to->failed = to->failed || event->failed;
    free(event->at);
}

/* What one event says: a summary with one value, or the version of the file. */
static void put_event(bytes *to, double wall_time, int64_t step, const char *version, bytes *value)
{
    bytes event = {0}, summary = {0};
    put_double(&event, 1, wall_time);
    if (step) {
        put_key(&event, 2, VARINT);
        put_varint(&event, (uint64_t)step);
    }
    if (version)
        put_block(&event, 3, version, strlen(version));
    if (value) {
        put_message(&summary, 1, value);
        put_message(&event, 5, &summary);
    }
    put_record(to, &event);
}

static void put_version(bytes *to)
{
    put_event(to, fdl_now_utc(), 0, "brain.Event:2", NULL);
}

static void put_scalar(bytes *to, const char *tag, double v, int64_t step, double wall_time)
{
    bytes value = {0};
    put_block(&value, 1, tag, strlen(tag));
    put_float(&value, 2, (float)v);
    put_event(to, wall_time, step, NULL, &value);
}

static void put_histogram(bytes *to, const char *tag, const fdl_histogram *h, int64_t step, double wall_time)
{
    bytes value = {0}, histo = {0};
    put_double(&histo, 1, h->min);
    put_double(&histo, 2, h->max);
    put_double(&histo, 3, h->num);
    put_double(&histo, 4, h->sum);
    put_double(&histo, 5, h->sum_squares);
    put_doubles(&histo, 6, h->n, h->limits);
    put_doubles(&histo, 7, h->n, h->counts);
    put_block(&value, 1, tag, strlen(tag));
    put_message(&value, 5, &histo);
    put_event(to, wall_time, step, NULL, &value);
}

/* A tensor of one string, and that the text plugin shows it. */
static void put_text(bytes *to, const char *tag, const char *text, int64_t step, double wall_time)
{
    static const char mark[] = "/text_summary";
    bytes value = {0}, tensor = {0}, shape = {0}, dim = {0}, metadata = {0}, plugin = {0}, name = {0};
    put(&name, tag, strlen(tag));
    put(&name, mark, strlen(mark));
    put_key(&tensor, 1, VARINT);
    put_varint(&tensor, 7); /* DT_STRING */
    put_key(&dim, 1, VARINT);
    put_varint(&dim, 1);
    put_message(&shape, 2, &dim);
    put_message(&tensor, 2, &shape);
    put_block(&tensor, 8, text, strlen(text));
    put_block(&plugin, 1, "text", 4);
    put_message(&metadata, 1, &plugin);
    put_message(&value, 1, &name);
    put_message(&value, 8, &tensor);
    put_message(&value, 9, &metadata);
    put_event(to, wall_time, step, NULL, &value);
}

/* ---- a file that grows --------------------------------------------------------------------------------- */

struct fdl_events {
    FILE *out;
    char *path;
    bool torn; /* a record wasn't written whole: more of them couldn't be read */
    /* The last round of each metric that was written. */
    name_map names;
    int n, room;
    struct seen {
        char *name;
        int64_t round;
    } * seen;
};

static fdl_status make_folders(const char *folder)
{
    char *path = strdup(folder);
    if (!path)
        return fdl_fail(FDL_E_OOM, "fdl_events_open: no memory");
    fdl_status status = FDL_OK;
    for (char *s = path + 1; status == FDL_OK; s++) {
        if (*s != '/' && *s)
            continue;
        char end = *s;
        *s = 0;
        struct stat st;
        if (mkdir(path, 0777) != 0 && !(stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
            status = fdl_fail_errno("the folder '%s' can't be made", path);
        *s = end;
        if (!end)
            break;
    }
    free(path);
    return status;
}

/* Not there before, whatever else writes into the folder. */
static FILE *begin_file(const char *folder, const char *suffix, char **path)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < 1000; i++) {
        if (asprintf(path, "%s/events.out.tfevents.%010lld.%s.%ld.%d%s", folder, (long long)fdl_now_utc(),
                     host, (long)getpid(), i, suffix) < 0) {
            *path = NULL;
            return fdl_fail_null(FDL_E_OOM, "fdl_events_open: no memory");
        }
        int fd = open(*path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        FILE *out = fd >= 0 ? fdopen(fd, "wb") : NULL;
        if (out)
            return out;
        if (fd >= 0)
            close(fd);
        if (errno != EEXIST)
            break;
        free(*path);
        *path = NULL;
    }
    fdl_fail_errno("fdl_events_open: '%s' can't be written", *path ? *path : folder);
    return NULL;
}

/* Whole records to the file; frees them. */
static fdl_status write_out(const char *function, fdl_events *ev, bytes *b)
{
    fdl_status status = FDL_OK;
    if (b->failed)
        status = fdl_fail(FDL_E_OOM, "%s: no memory", function);
    else if (ev->torn)
        status = fdl_fail(FDL_E_IO, "%s: '%s' ends in the midst of a record, an earlier write failed",
                          function, ev->path);
    else if (fwrite(b->at, 1, b->n, ev->out) != b->n) {
        ev->torn = true;
        status = fdl_fail_errno("%s: '%s' can't be written", function, ev->path);
    }
    free(b->at);
    return status;
}

fdl_events *fdl_events_open_opt(const char *folder, const fdl_events_opts *opts)
{
    const char *suffix = opts && opts->suffix ? opts->suffix : "";
    if (!folder) {
        fdl_null_operand("fdl_events_open", "folder");
        return NULL;
    }
    if (!*folder || strchr(suffix, '/'))
        return fdl_fail_null(FDL_E_ARG, *folder ? "fdl_events_open: .suffix has a \"/\" in it"
                                                : "fdl_events_open: the folder's name is empty");
    if (make_folders(folder) != FDL_OK)
        return NULL;
    fdl_events *ev = calloc(1, sizeof *ev);
    if (!ev)
        return fdl_fail_null(FDL_E_OOM, "fdl_events_open: no memory");
    bytes b = {0};
    if ((ev->out = begin_file(folder, suffix, &ev->path))) {
        put_version(&b);
        if (write_out("fdl_events_open", ev, &b) == FDL_OK && fdl_events_flush(ev) == FDL_OK)
            return ev;
        unlink(ev->path);
        fclose(ev->out);
    }
    free(ev->path);
    free(ev);
    return NULL;
}

const char *fdl_events_path(const fdl_events *ev)
{
    return ev ? ev->path : NULL;
}

fdl_status fdl_events_flush(fdl_events *ev)
{
    if (!ev)
        return fdl_null_operand(__func__, "ev");
    if (fflush(ev->out) == 0)
        return FDL_OK;
    ev->torn = true; /* nobody knows how much of it is there */
    return fdl_fail_errno("%s: '%s' can't be written", __func__, ev->path);
}

fdl_status fdl_events_close(fdl_events *ev)
{
    if (!ev)
        return FDL_OK;
    fdl_status status = FDL_OK;
    if (fclose(ev->out) != 0)
        status = fdl_fail_errno("fdl_events_close: '%s' can't be written", ev->path);
    for (int i = 0; i < ev->n; i++)
        free(ev->seen[i].name);
    free(ev->seen);
    name_free(&ev->names);
    free(ev->path);
    free(ev);
    return status;
}

/* ---- single events ------------------------------------------------------------------------------------- */

static fdl_status check_event(const char *function, const fdl_events *ev, const char *tag)
{
    if (!ev || !tag)
        return fdl_null_operand(function, ev ? "tag" : "ev");
    const char *fault = series_name_fault(tag);
    return fault ? fdl_fail(FDL_E_ARG, "%s: the tag %s", function, fault) : FDL_OK;
}

static double time_of(const fdl_event_opts *opts)
{
    double wall_time = opts ? opts->wall_time : 0;
    return bits_of(wall_time) ? fdl_opt_double(wall_time, 0) : fdl_now_utc();
}

fdl_status fdl_events_scalar_opt(fdl_events *ev, const char *tag, double value, int64_t step,
                                 const fdl_event_opts *opts)
{
    bytes b = {0};
    FDL_TRY(check_event("fdl_events_scalar", ev, tag));
    put_scalar(&b, tag, value, step, time_of(opts));
    return write_out("fdl_events_scalar", ev, &b);
}

static fdl_status check_histogram(const fdl_histogram *h)
{
    for (int64_t i = 0; i < h->n; i++)
        if (!(h->counts[i] >= 0) || (i && !(h->limits[i] > h->limits[i - 1])))
            return fdl_fail(
                FDL_E_ARG,
                "fdl_events_histogram: bucket %lld has the limit %g and the count %g; limits must "
                "rise, counts be 0 or more",
                (long long)i, h->limits[i], h->counts[i]);
    return FDL_OK;
}

fdl_status fdl_events_histogram_opt(fdl_events *ev, const char *tag, const fdl_histogram *h, int64_t step,
                                    const fdl_event_opts *opts)
{
    static const char function[] = "fdl_events_histogram";
    bytes b = {0};
    FDL_TRY(check_event(function, ev, tag));
    if (!h || (h->n > 0 && (!h->limits || !h->counts)))
        return fdl_null_operand(function, h ? "h->limits" : "h");
    FDL_TRY(check_histogram(h));
    if (h->n <= 0)
        return FDL_OK;
    put_histogram(&b, tag, h, step, time_of(opts));
    return write_out(function, ev, &b);
}

fdl_status fdl_events_text_opt(fdl_events *ev, const char *tag, const char *text, int64_t step,
                               const fdl_event_opts *opts)
{
    static const char function[] = "fdl_events_text";
    bytes b = {0};
    FDL_TRY(check_event(function, ev, tag));
    if (!text)
        return fdl_null_operand(function, "text");
    for (const char *s = text, *end = text + strlen(text); s < end;) {
        int size = fdl_utf8_decode(s, (size_t)(end - s), NULL);
        if (!size)
            return fdl_fail(FDL_E_ARG, "%s: byte %zu of the text is not UTF-8", function, (size_t)(s - text));
        s += size;
    }
    put_text(&b, tag, text, step, time_of(opts));
    return write_out(function, ev, &b);
}

/* ---- of a graph ---------------------------------------------------------------------------------------- */

/* What curve c has after round `from`. */
static void put_curve(bytes *b, const curve *c, int64_t from)
{
    const series *s = c->s;
    for (int64_t i = 0; i < s->history.n; i++)
        if (s->round[i] > from)
            put_scalar(b, c->name, s->history.at[i], s->round[i], c->store->stamp[s->round[i] - 1].utc);
    for (int i = 0; i < s->histograms; i++) {
        const fdl_histogram *h = s->histogram[i];
        if (h->epoch > from && h->n)
            put_histogram(b, c->name, h, h->epoch, c->store->stamp[h->epoch - 1].utc);
    }
}

static const curve_choice all_metrics = {.store_of = metrics_of, .below = true, .histograms = true};

static struct seen *seen_of(fdl_events *ev, const char *name)
{
    int i = name_find(&ev->names, name);
    if (i >= 0)
        return &ev->seen[i];
    struct seen *more = grown(ev->seen, ev->n, &ev->room, sizeof *more);
    if (!more)
        return NULL;
    ev->seen = more;
    char *own = strdup(name);
    if (!own || name_put(&ev->names, own, ev->n) != FDL_OK) {
        free(own);
        return fdl_fail_null(FDL_E_OOM, "fdl_graph_write_events: no memory");
    }
    more[ev->n] = (struct seen){own, 0};
    return &more[ev->n++];
}

static int64_t last_round(const series *s)
{
    int64_t round = s->history.n ? s->round[s->history.n - 1] : 0;
    int64_t other = s->histograms ? s->histogram[s->histograms - 1]->epoch : 0;
    return round > other ? round : other;
}

fdl_status fdl_graph_write_events_of(fdl_module *m, fdl_events *ev, int n, const char *const *names)
{
    static const char function[] = "fdl_graph_write_events";
    FDL_SCOPE;
    graph *g = graph_of(function, m);
    curves c;
    bytes b = {0};
    if (!g || !ev)
        return g ? fdl_null_operand(function, "ev") : fdl_error_pending();
    fdl_status had = fdl_error_pending(), status = curves_gather(&c, function, g, n, names, &all_metrics);
    if (status == FDL_E_STATE && had == FDL_OK) { /* no points at all is no failure here */
        fdl_clear_error();
        return FDL_OK;
    }
    for (int i = 0; i < c.n && status == FDL_OK; i++) {
        struct seen *seen = seen_of(ev, c.at[i].name);
        status = seen ? FDL_OK : fdl_error_pending();
        if (seen)
            put_curve(&b, &c.at[i], last_round(c.at[i].s) < seen->round ? 0 : seen->round);
    }
    if (status == FDL_OK && b.n)
        status = write_out(function, ev, &b);
    else
        free(b.at);
    for (int i = 0; i < c.n && status == FDL_OK; i++)
        seen_of(ev, c.at[i].name)->round = last_round(c.at[i].s);
    curves_free(&c);
    return status;
}

fdl_status fdl_graph_export_events_of(fdl_module *m, const char *folder, int n, const char *const *names)
{
    static const char function[] = "fdl_graph_export_events";
    FDL_SCOPE;
    graph *g = graph_of(function, m);
    curves c;
    if (!g || !folder)
        return g ? fdl_null_operand(function, "folder") : fdl_error_pending();
    FDL_TRY(curves_gather(&c, function, g, n, names, &all_metrics));
    bytes b = {0};
    char *path = NULL;
    put_version(&b);
    for (int i = 0; i < c.n; i++)
        put_curve(&b, &c.at[i], 0);
    fdl_status status = make_folders(folder);
    if (status == FDL_OK && asprintf(&path, "%s/events.out.tfevents.0000000000.flodl", folder) < 0) {
        path = NULL;
        b.failed = true;
    }
    if (status == FDL_OK && b.failed)
        status = fdl_fail(FDL_E_OOM, "%s: no memory", function);
    if (status == FDL_OK)
        status = fdl_file_save(path, b.at, b.n);
    free(path);
    free(b.at);
    curves_free(&c);
    return status;
}
