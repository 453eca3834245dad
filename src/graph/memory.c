/* Memory that lives as long as a graph, and arrays that grow. */
#include "graph_private.h"

#include <stdarg.h>
#include <stddef.h>

struct arena_block {
    struct arena_block *next;
    size_t used, room;
};

enum { block_header = (sizeof(struct arena_block) + 15) / 16 * 16, block_room = 4096 - block_header };

static void *no_memory(void)
{
    return fdl_fail_null(FDL_E_OOM, "no memory for a graph");
}

void *arena_alloc(arena *a, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    struct arena_block *b = a->first;
    if (!b || b->room - b->used < size) {
        size_t room = size > block_room ? size : block_room;
        b = calloc(1, block_header + room);
        if (!b)
            return no_memory();
        *b = (struct arena_block){.next = a->first, .room = room};
        a->first = b;
    }
    void *p = (char *)b + block_header + b->used;
    b->used += size;
    return p;
}

char *arena_text(arena *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = arena_alloc(a, (size_t)length + 1);
    if (!text)
        return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)length + 1, format, args);
    va_end(args);
    return text;
}

void arena_free(arena *a)
{
    while (a->first) {
        struct arena_block *next = a->first->next;
        free(a->first);
        a->first = next;
    }
}

void *grown(void *at, int n, int *room, size_t size)
{
    if (n < *room)
        return at;
    int more = *room ? 2 * *room : 8;
    void *larger = realloc(at, size * (size_t)more);
    if (!larger)
        return no_memory();
    *room = more;
    return larger;
}
