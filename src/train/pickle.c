/* A reader of pickles that knows what torch.save writes of state_dicts (protocols 2 to 5) and builds plain values. No
 * name that a file gives is ever looked up in the program: each is compared with a list. */
#include "pickle.h"

#include <inttypes.h>
#include <math.h>

enum { MOST_VALUES = 10000000 };

/* ---- opcodes ---------------------------------------------------------------------------------------- */

#define OPCODES(X)                                                                                          \
    X(MARK, '(')                                                                                            \
    X(STOP, '.')                                                                                            \
    X(POP, '0')                                                                                             \
    X(POP_MARK, '1') X(DUP, '2') X(FLOAT, 'F') X(INT, 'I') X(BININT, 'J') X(BININT1, 'K') X(LONG, 'L')      \
        X(BININT2, 'M') X(NONE, 'N') X(PERSID, 'P') X(BINPERSID, 'Q') X(REDUCE, 'R') X(STRING, 'S')         \
            X(BINSTRING, 'T') X(SHORT_BINSTRING, 'U') X(UNICODE, 'V') X(BINUNICODE, 'X') X(APPEND, 'a')     \
                X(BUILD, 'b') X(GLOBAL, 'c') X(DICT, 'd') X(EMPTY_DICT, '}') X(APPENDS, 'e') X(GET, 'g')    \
                    X(BINGET, 'h') X(INST, 'i') X(LONG_BINGET, 'j') X(LIST, 'l') X(EMPTY_LIST, ']')         \
                        X(OBJ, 'o') X(PUT, 'p') X(BINPUT, 'q') X(LONG_BINPUT, 'r') X(SETITEM, 's')          \
                            X(TUPLE, 't') X(EMPTY_TUPLE, ')') X(SETITEMS, 'u') X(BINFLOAT, 'G')             \
                                X(PROTO, 0x80) X(NEWOBJ, 0x81) X(EXT1, 0x82) X(EXT2, 0x83) X(EXT4, 0x84)    \
                                    X(TUPLE1, 0x85) X(TUPLE2, 0x86) X(TUPLE3, 0x87) X(NEWTRUE, 0x88)        \
                                        X(NEWFALSE, 0x89) X(LONG1, 0x8a) X(LONG4, 0x8b) X(BINBYTES, 'B')    \
                                            X(SHORT_BINBYTES, 'C') X(SHORT_BINUNICODE, 0x8c)                \
                                                X(BINUNICODE8, 0x8d) X(BINBYTES8, 0x8e) X(EMPTY_SET, 0x8f)  \
                                                    X(ADDITEMS, 0x90) X(FROZENSET, 0x91) X(NEWOBJ_EX, 0x92) \
                                                        X(STACK_GLOBAL, 0x93) X(MEMOIZE, 0x94)              \
                                                            X(FRAME, 0x95) X(BYTEARRAY8, 0x96)              \
                                                                X(NEXT_BUFFER, 0x97)                        \
                                                                    X(READONLY_BUFFER, 0x98)

#define ENUM(name, code) OP_##name = code,
enum { OPCODES(ENUM) };
#undef ENUM

static const char *opcode_name(int code)
{
    switch (code) {
#define CASE(name, value) \
    case value:           \
        return #name;
        OPCODES(CASE)
#undef CASE
    default:
        return NULL;
    }
}

/* ---- the machine ------------------------------------------------------------------------------------ */

typedef struct machine {
    pickle *p;
    source *s;
    const unsigned char *at, *end;
    int values;
    pickle_value **stack;
    int depth, stack_room;
    int *marks;
    int n_marks, mark_room;
    pickle_value **memo;
    size_t memo_room, memo_next;
    size_t size;
} machine;

static fdl_status bad(const machine *m, const char *what)
{
    return fdl_fail(FDL_E_FORMAT, "'%s': its pickle %s", m->s->path, what);
}

static fdl_status no_memory(const machine *m)
{
    return fdl_fail(FDL_E_OOM, "'%s': no memory for its pickle", m->s->path);
}

/* Room for one more element; false: out of memory. */
static bool grow(void *array, int n, int *room, size_t size)
{
    if (n < *room)
        return true;
    int more = *room ? 2 * *room : 16;
    void *at = realloc(*(void **)array, size * (size_t)more);
    if (!at)
        return false;
    *(void **)array = at;
    *room = more;
    return true;
}

static pickle_value *made(machine *m, pickle_kind kind)
{
    if (++m->values > MOST_VALUES)
        return fdl_fail_null(FDL_E_FORMAT, "'%s': its pickle has more than %d values", m->s->path,
                             (int)MOST_VALUES);
    pickle_value *v = calloc(1, sizeof *v);
    if (!v)
        return no_memory(m), NULL;
    v->kind = kind;
    v->next = m->p->all;
    m->p->all = v;
    return v;
}

static fdl_status push(machine *m, pickle_value *v)
{
    if (!v)
        return fdl_error_pending();
    if (!grow(&m->stack, m->depth, &m->stack_room, sizeof(pickle_value *)))
        return no_memory(m);
    m->stack[m->depth++] = v;
    return FDL_OK;
}

/* The lowest place that the newest mark lets an opcode take. */
static int bottom(const machine *m)
{
    return m->n_marks ? m->marks[m->n_marks - 1] : 0;
}

static pickle_value *pop(machine *m)
{
    if (m->depth <= bottom(m))
        return bad(m, "takes more from its stack than is there"), NULL;
    return m->stack[--m->depth];
}

static pickle_value *top(machine *m)
{
    if (m->depth <= bottom(m))
        return bad(m, "takes more from its stack than is there"), NULL;
    return m->stack[m->depth - 1];
}

/* The next n bytes; NULL: there aren't so many. */
static const unsigned char *take(machine *m, size_t n)
{
    if (n > (size_t)(m->end - m->at))
        return bad(m, "is truncated"), NULL;
    m->at += n;
    return m->at - n;
}

static fdl_status take_number(machine *m, int n, uint64_t *v)
{
    const unsigned char *from = take(m, (size_t)n);
    *v = from ? source_little_endian(from, n) : 0;
    return from ? FDL_OK : fdl_error_pending();
}

/* ---- values ----------------------------------------------------------------------------------------- */

static fdl_status push_int(machine *m, pickle_kind kind, int64_t i)
{
    pickle_value *v = made(m, kind);
    if (v)
        v->i = i;
    return push(m, v);
}

static fdl_status push_text(machine *m, int length_bytes)
{
    uint64_t n;
    FDL_TRY(take_number(m, length_bytes, &n));
    const unsigned char *from = take(m, n > m->size ? m->size + 1 : (size_t)n);
    if (!from)
        return fdl_error_pending();
    pickle_value *v = made(m, PICKLE_TEXT);
    if (!v || !(v->text = source_text(m->s, from, (size_t)n)))
        return fdl_error_pending();
    if (memchr(from, 0, (size_t)n) || !source_is_utf8(v->text))
        return bad(m, "has a text that is not UTF-8");
    return push(m, v);
}

static fdl_status push_float(machine *m)
{
    const unsigned char *b = take(m, 8);
    uint64_t bits = 0;
    if (!b)
        return fdl_error_pending();
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | b[i];
    pickle_value *v = made(m, PICKLE_FLOAT);
    if (v)
        memcpy(&v->f, &bits, sizeof v->f);
    return push(m, v);
}

/* LONG1: two's complement of any length; what doesn't fit 64 bits is refused. */
static fdl_status push_long(machine *m)
{
    uint64_t n;
    FDL_TRY(take_number(m, 1, &n));
    const unsigned char *b = take(m, (size_t)n);
    if (!b)
        return fdl_error_pending();
    if (n > 8)
        return bad(m, "has a number of more than 64 bits");
    uint64_t v = source_little_endian(b, (int)n);
    if (n && n < 8 && b[n - 1] & 0x80)
        v |= UINT64_MAX << 8 * n;
    return push_int(m, PICKLE_INT, (int64_t)v);
}

/* The values from place `from` on become one's elements. */
static fdl_status gather(machine *m, pickle_value *into, int from)
{
    int n = m->depth - from;
    if (into->n + n > into->room) {
        int room = into->n + n > 2 * into->room ? into->n + n : 2 * into->room;
        pickle_value **more = realloc(into->at, sizeof *more * (size_t)room);
        if (!more)
            return no_memory(m);
        into->at = more;
        into->room = room;
    }
    for (int i = 0; i < n; i++)
        into->at[into->n++] = m->stack[from + i];
    m->depth = from;
    return FDL_OK;
}

static fdl_status push_tuple(machine *m, int from)
{
    pickle_value *v = made(m, PICKLE_TUPLE);
    if (!v)
        return fdl_error_pending();
    FDL_TRY(gather(m, v, from));
    return push(m, v);
}

static fdl_status short_tuple(machine *m, int n)
{
    return m->depth - bottom(m) < n ? bad(m, "takes more from its stack than is there")
                                    : push_tuple(m, m->depth - n);
}

/* Everything above `from` goes into the container under it. */
static fdl_status add_to(machine *m, int from, pickle_kind kind)
{
    if (from <= bottom(m) || m->stack[from - 1]->kind != kind)
        return bad(m, kind == PICKLE_DICT ? "puts items into what is no dict" : "appends to what is no list");
    if (kind == PICKLE_DICT && (m->depth - from) % 2)
        return bad(m, "has a key without a value");
    return gather(m, m->stack[from - 1], from);
}

/* ---- the memo --------------------------------------------------------------------------------------- */

static fdl_status remember(machine *m, uint64_t i)
{
    pickle_value *v = top(m);
    if (!v)
        return fdl_error_pending();
    if (i >= m->size) /* no pickle of this length can count so far */
        return bad(m, "has a memo number that is too large");
    if (i >= m->memo_room) {
        size_t room = i < 32 ? 64 : 2 * (size_t)i;
        pickle_value **more = realloc(m->memo, sizeof *more * room);
        if (!more)
            return no_memory(m);
        memset(more + m->memo_room, 0, sizeof *more * (room - m->memo_room));
        m->memo = more;
        m->memo_room = room;
    }
    m->memo[i] = v;
    if (i >= m->memo_next)
        m->memo_next = (size_t)i + 1;
    return FDL_OK;
}

static fdl_status recall(machine *m, uint64_t i)
{
    return i < m->memo_room && m->memo[i] ? push(m, m->memo[i])
                                          : bad(m, "asks for a memo number that it didn't set");
}

/* ---- names of Python's ------------------------------------------------------------------------------- */

static const struct {
    const char *storage, *dtype;
} storages[] = {{"torch FloatStorage", "float32"},
                {"torch DoubleStorage", "float64"},
                {"torch HalfStorage", "float16"},
                {"torch BFloat16Storage", "bfloat16"},
                {"torch LongStorage", "int64"},
                {"torch IntStorage", "int32"},
                {"torch ShortStorage", "int16"},
                {"torch CharStorage", "int8"},
                {"torch ByteStorage", "uint8"},
                {"torch BoolStorage", "bool"},
                {"torch ComplexFloatStorage", "complex64"},
                {"torch ComplexDoubleStorage", "complex128"}};

static const char untyped[] = "torch.storage UntypedStorage", ordered_dict[] = "collections OrderedDict",
                  tensor_v2[] = "torch._utils _rebuild_tensor_v2",
                  tensor_v3[] = "torch._utils _rebuild_tensor_v3",
                  tensor_v1[] = "torch._utils _rebuild_tensor",
                  parameter[] = "torch._utils _rebuild_parameter", size[] = "torch Size",
                  device[] = "torch device";

static const char *const known[] = {untyped,   ordered_dict, tensor_v2, tensor_v3,
                                    tensor_v1, parameter,    size,      device};

static bool is_dtype(const char *name)
{
    static const char *const dtypes[] = {
        "float32",     "float64",         "float16",        "bfloat16",  "int64",
        "int32",       "int16",           "int8",           "uint8",     "bool",
        "uint16",      "uint32",          "uint64",         "complex32", "complex64",
        "complex128",  "qint8",           "quint8",         "qint32",    "float8_e4m3fn",
        "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strncmp(name, "torch ", 6) == 0 && strcmp(name + 6, dtypes[i]) == 0)
            return true;
    return false;
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof storages / sizeof storages[0]; i++)
        if (strcmp(name, storages[i].storage) == 0)
            return true;
    return is_dtype(name);
}

static fdl_status push_global(machine *m, const char *module, size_t a, const char *name, size_t b)
{
    if (a > 200 || b > 200)
        return bad(m, "has a class whose name is too long");
    char whole[512];
    snprintf(whole, sizeof whole, "%.*s %.*s", (int)a, module, (int)b, name);
    if (!source_is_utf8(whole))
        return bad(m, "has a class whose name is not UTF-8");
    if (!is_known(whole))
        return fdl_fail(
            FDL_E_FORMAT,
            "'%s': its pickle needs %.*s.%.*s, and nothing that a file brings is executed: save a "
            "state_dict, which has tensors, numbers and texts only",
            m->s->path, (int)a, module, (int)b, name);
    pickle_value *v = made(m, PICKLE_GLOBAL);
    if (!v || !(v->text = source_text(m->s, whole, strlen(whole))))
        return fdl_error_pending();
    return push(m, v);
}

/* Two lines: module and name. */
static fdl_status read_global(machine *m)
{
    const unsigned char *line[3] = {m->at};
    for (int i = 0; i < 2; i++) {
        const unsigned char *stop = memchr(line[i], '\n', (size_t)(m->end - line[i]));
        if (!stop)
            return bad(m, "is truncated");
        line[i + 1] = stop + 1;
    }
    m->at = line[2];
    return push_global(m, (const char *)line[0], (size_t)(line[1] - line[0] - 1), (const char *)line[1],
                       (size_t)(line[2] - line[1] - 1));
}

static fdl_status stack_global(machine *m)
{
    const pickle_value *name = pop(m), *module = name ? pop(m) : NULL;
    if (!module)
        return fdl_error_pending();
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        return bad(m, "has a class whose name is no text");
    return push_global(m, module->text, strlen(module->text), name->text, strlen(name->text));
}

/* ---- tensors ---------------------------------------------------------------------------------------- */

static const pickle_value *arg(const pickle_value *args, int i, pickle_kind kind)
{
    return i < args->n && args->at[i]->kind == kind ? args->at[i] : NULL;
}

/* ('storage', class, key, location, number of elements) */
static fdl_status push_storage(machine *m)
{
    const pickle_value *id = pop(m);
    if (!id)
        return fdl_error_pending();
    bool tuple = id->kind == PICKLE_TUPLE && id->n >= 5;
    const pickle_value *word = tuple ? arg(id, 0, PICKLE_TEXT) : NULL,
                       *class = tuple ? arg(id, 1, PICKLE_GLOBAL) : NULL,
                       *key = tuple ? arg(id, 2, PICKLE_TEXT) : NULL,
                       *n = tuple ? arg(id, 4, PICKLE_INT) : NULL;
    if (!word || !class || !key || !n || strcmp(word->text, "storage") != 0 || n->i < 0)
        return bad(m, "has a storage that is not described as torch.save does");
    const char *dtype = NULL;
    bool bytes = strcmp(class->text, untyped) == 0;
    for (size_t i = 0; i < sizeof storages / sizeof storages[0]; i++)
        if (strcmp(class->text, storages[i].storage) == 0)
            dtype = storages[i].dtype;
    if (!bytes && !dtype)
        return bad(m, "has a storage of a class that is none");
    pickle_value *v = made(m, PICKLE_STORAGE);
    if (!v || !(v->tensor = calloc(1, sizeof *v->tensor)))
        return v ? no_memory(m) : fdl_error_pending();
    *v->tensor = (pickle_tensor){.storage = key->text, .dtype = dtype, .in_bytes = bytes, .elements = n->i};
    return push(m, v);
}

static bool take_shape(const pickle_value *v, fdl_shape *shape)
{
    if (!v || v->n > FDL_MAX_DIMS)
        return false;
    shape->ndim = v->n;
    for (int d = 0; d < v->n; d++) {
        if (v->at[d]->kind != PICKLE_INT || v->at[d]->i < 0)
            return false;
        shape->d[d] = v->at[d]->i;
    }
    return true;
}

/* (storage, offset, size, stride, ...); in version 3 with the dtype as 7th. */
static pickle_value *rebuild_tensor(machine *m, const char *function, const pickle_value *args)
{
    const pickle_value *storage = arg(args, 0, PICKLE_STORAGE), *offset = arg(args, 1, PICKLE_INT);
    const pickle_value *dtype = function == tensor_v3 ? arg(args, 6, PICKLE_GLOBAL) : NULL;
    fdl_shape shape = {0}, strides = {0};
    if (!storage || !offset || offset->i < 0 || !take_shape(arg(args, 2, PICKLE_TUPLE), &shape) ||
        !take_shape(arg(args, 3, PICKLE_TUPLE), &strides) || shape.ndim != strides.ndim)
        return bad(m, "has a tensor that is not described as torch.save does"), NULL;
    if (storage->tensor->in_bytes && !(dtype && is_dtype(dtype->text)))
        return bad(m, "has a tensor without a dtype"), NULL;
    pickle_value *v = made(m, PICKLE_TENSOR);
    if (!v || !(v->tensor = calloc(1, sizeof *v->tensor)))
        return v ? (no_memory(m), NULL) : NULL;
    *v->tensor = *storage->tensor;
    v->tensor->offset = offset->i;
    v->tensor->shape = shape;
    v->tensor->strides = strides;
    if (storage->tensor->in_bytes)
        v->tensor->dtype = dtype->text + 6;
    return v;
}

/* OrderedDict(): empty; OrderedDict([(key, value), ...]). */
static pickle_value *make_dict(machine *m, const pickle_value *args)
{
    pickle_value *v = made(m, PICKLE_DICT);
    const pickle_value *pairs = args->n == 1 ? arg(args, 0, PICKLE_LIST) : NULL;
    if (args->n && !pairs)
        return bad(m, "makes an OrderedDict of something else than pairs"), NULL;
    for (int i = 0; v && pairs && i < pairs->n; i++) {
        const pickle_value *pair = pairs->at[i];
        if ((pair->kind != PICKLE_TUPLE && pair->kind != PICKLE_LIST) || pair->n != 2)
            return bad(m, "makes an OrderedDict of something else than pairs"), NULL;
        int from = m->depth;
        if (push(m, pair->at[0]) != FDL_OK || push(m, pair->at[1]) != FDL_OK || gather(m, v, from) != FDL_OK)
            return NULL;
    }
    return v;
}

static fdl_status reduce(machine *m)
{
    const pickle_value *args = pop(m), *function = args ? pop(m) : NULL;
    if (!function)
        return fdl_error_pending();
    if (args->kind != PICKLE_TUPLE || function->kind != PICKLE_GLOBAL)
        return bad(m, "calls what is no function of the known ones");
    const char *name = function->text;
    if (strcmp(name, ordered_dict) == 0)
        return push(m, make_dict(m, args));
    if (strcmp(name, tensor_v2) == 0 || strcmp(name, tensor_v1) == 0)
        return push(m, rebuild_tensor(m, tensor_v2, args));
    if (strcmp(name, tensor_v3) == 0)
        return push(m, rebuild_tensor(m, tensor_v3, args));
    if (strcmp(name, parameter) == 0) {
        if (!arg(args, 0, PICKLE_TENSOR))
            return bad(m, "has a parameter without a tensor");
        return push(m, args->at[0]);
    }
    if (strcmp(name, size) == 0) {
        if (args->n != 1 || (args->at[0]->kind != PICKLE_TUPLE && args->at[0]->kind != PICKLE_LIST))
            return bad(m, "has a torch.Size of something else than numbers");
        return push(m, args->at[0]);
    }
    if (strcmp(name, device) == 0)
        return push(m, made(m, PICKLE_OTHER));
    return bad(m, "calls what is no function of the known ones");
}

/* The attributes of a dict (a state_dict's _metadata) hold no tensors that belong to it. */
static fdl_status build(machine *m)
{
    const pickle_value *state = pop(m), *of = state ? top(m) : NULL;
    if (!of)
        return fdl_error_pending();
    return of->kind == PICKLE_DICT ? FDL_OK : bad(m, "sets attributes (BUILD) of what is no dict");
}

/* ---- running ---------------------------------------------------------------------------------------- */

static fdl_status refuse(const machine *m, int code)
{
    const char *name = opcode_name(code);
    char text[16];
    snprintf(text, sizeof text, "0x%02x", (unsigned)code);
    return fdl_fail(
        FDL_E_FORMAT,
        "'%s': its pickle has the opcode %s%s, which a state_dict doesn't need, and nothing else is read",
        m->s->path, name ? name : text, name ? "" : ", which is none");
}

static fdl_status mark(machine *m)
{
    if (!grow(&m->marks, m->n_marks, &m->mark_room, sizeof(int)))
        return no_memory(m);
    m->marks[m->n_marks++] = m->depth;
    return FDL_OK;
}

static fdl_status marked(machine *m, int code)
{
    if (!m->n_marks)
        return bad(m, "ends a group that it didn't begin");
    int from = m->marks[--m->n_marks];
    if (code == OP_TUPLE)
        return push_tuple(m, from);
    return add_to(m, from, code == OP_APPENDS ? PICKLE_LIST : PICKLE_DICT);
}

static fdl_status proto(machine *m)
{
    uint64_t version;
    FDL_TRY(take_number(m, 1, &version));
    return version >= 2 && version <= 5 ? FDL_OK : bad(m, "has a protocol that is not 2 to 5");
}

static fdl_status with_number(machine *m, int n, int code)
{
    uint64_t v;
    FDL_TRY(take_number(m, n, &v));
    switch (code) {
    case OP_BINPUT:
        return remember(m, v);
    case OP_BINGET:
        return recall(m, v);
    case OP_FRAME:
        return FDL_OK; /* frames are for readers that stream */
    case OP_BININT:
        return push_int(m, PICKLE_INT, (int32_t)(uint32_t)v);
    default:
        return push_int(m, PICKLE_INT, (int64_t)v);
    }
}

static fdl_status step(machine *m, int code)
{
    switch (code) {
    case OP_PROTO:
        return proto(m);
    case OP_FRAME:
        return with_number(m, 8, OP_FRAME);
    case OP_MARK:
        return mark(m);
    case OP_NONE:
        return push(m, made(m, PICKLE_NONE));
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return push_int(m, PICKLE_BOOL, code == OP_NEWTRUE);
    case OP_BININT:
        return with_number(m, 4, OP_BININT);
    case OP_BININT1:
        return with_number(m, 1, OP_BININT1);
    case OP_BININT2:
        return with_number(m, 2, OP_BININT2);
    case OP_LONG1:
        return push_long(m);
    case OP_BINFLOAT:
        return push_float(m);
    case OP_SHORT_BINUNICODE:
        return push_text(m, 1);
    case OP_BINUNICODE:
        return push_text(m, 4);
    case OP_BINUNICODE8:
        return push_text(m, 8);
    case OP_EMPTY_TUPLE:
        return push(m, made(m, PICKLE_TUPLE));
    case OP_EMPTY_LIST:
        return push(m, made(m, PICKLE_LIST));
    case OP_EMPTY_DICT:
        return push(m, made(m, PICKLE_DICT));
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        return short_tuple(m, code - OP_TUPLE1 + 1);
    case OP_TUPLE:
    case OP_APPENDS:
    case OP_SETITEMS:
        return marked(m, code);
    case OP_APPEND:
        return add_to(m, m->depth - 1, PICKLE_LIST);
    case OP_SETITEM:
        return add_to(m, m->depth - 2, PICKLE_DICT);
    case OP_BINPUT:
        return with_number(m, 1, OP_BINPUT);
    case OP_LONG_BINPUT:
        return with_number(m, 4, OP_BINPUT);
    case OP_MEMOIZE:
        return remember(m, m->memo_next);
    case OP_BINGET:
        return with_number(m, 1, OP_BINGET);
    case OP_LONG_BINGET:
        return with_number(m, 4, OP_BINGET);
    case OP_GLOBAL:
        return read_global(m);
    case OP_STACK_GLOBAL:
        return stack_global(m);
    case OP_BINPERSID:
        return push_storage(m);
    case OP_REDUCE:
        return reduce(m);
    case OP_BUILD:
        return build(m);
    default:
        return refuse(m, code);
    }
}

static fdl_status run(machine *m)
{
    while (m->at < m->end) {
        int code = *m->at++;
        if (code != OP_STOP) {
            FDL_TRY(step(m, code));
            continue;
        }
        if (m->depth != 1 || m->n_marks)
            return bad(m, "ends with something left over");
        m->p->root = m->stack[0];
        return FDL_OK;
    }
    return bad(m, "is truncated");
}

fdl_status pickle_read(pickle *p, source *s, const unsigned char *bytes, size_t n)
{
    *p = (pickle){0};
    machine m = {.p = p, .s = s, .at = bytes, .end = bytes + n, .size = n};
    fdl_status status = run(&m);
    free(m.stack);
    free(m.marks);
    free(m.memo);
    if (status != FDL_OK)
        pickle_free(p);
    return status;
}

void pickle_free(pickle *p)
{
    for (pickle_value *v = p->all, *next; v; v = next) {
        next = v->next;
        if (v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST || v->kind == PICKLE_DICT)
            free(v->at);
        else if (v->kind == PICKLE_STORAGE || v->kind == PICKLE_TENSOR)
            free(v->tensor);
        free(v);
    }
    *p = (pickle){0};
}
