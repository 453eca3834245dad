/* Drawings laid out as SVG: well formed, safe, in bounded time; what a build without libgraphviz says. */
#include "folder.h"
#include "graph/modules.h"

#include <pthread.h>

/* The build has the library; otherwise the error says how to get it. */
static bool has_graphviz(void)
{
    fdl_module *g = fdl_flow(id());
    char *svg = fdl_graph_svg_text(g);
    fdl_module_free(g);
    if (!svg)
        check_error(FDL_E_UNSUPPORTED, "libgraphviz-dev", "apt-get install", "fdl_graph_dot");
    free(svg);
    return svg != NULL;
}

#define need_graphviz()                                                                  \
    do {                                                                                 \
        if (!has_graphviz()) {                                                           \
            print_message("built without libgraphviz: the error is checked, no more\n"); \
            return;                                                                      \
        }                                                                                \
    } while (0)

static fdl_module *model(void)
{
    return fdl_flow(fdl_nn_linear(8, 8), fdl_flow_input("ctx"), fdl_flow_tag("a<b>&c\\"), add_ctx(),
                    fdl_flow_using("ctx"),
                    fdl_flow_loop(fdl_flow(fdl_nn_linear(8, 8), fdl_nn_relu()), .n = 3),
                    fdl_flow_gate(fdl_nn_softmax_router(8, 2),
                                  FDL_MODULES(fdl_nn_linear(8, 8), fdl_flow(id(), fdl_nn_linear(8, 8)))),
                    fdl_nn_linear(8, 2));
}

/* Tags close in the order in which they were opened; attributes are quoted; no stray & or <. */
static void check_well_formed(const char *svg)
{
    const char *open[64];
    int depth = 0;
    assert_int_equal(strncmp(svg, "<svg", 4), 0);
    for (const char *p = svg; *p;) {
        if (*p == '&') {
            const char *end = p + 1 + strcspn(p + 1, "; <&");
            assert_int_equal(*end, ';');
            p = end;
        }
        if (*p != '<') {
            p++;
            continue;
        }
        if (strncmp(p, "<!--", 4) == 0) {
            p = strstr(p, "-->");
            assert_non_null(p);
            p += 3;
            continue;
        }
        const char *end = p + 1;
        for (bool quoted = false; *end && (quoted || *end != '>'); end++)
            quoted ^= *end == '"';
        assert_int_equal(*end, '>');
        if (p[1] == '/') {
            assert_true(depth > 0);
            size_t n = (size_t)(end - p - 2);
            assert_int_equal(strncmp(open[--depth] + 1, p + 2, n), 0);
        } else if (end[-1] != '/') {
            assert_true(depth < 64);
            open[depth++] = p;
        }
        p = end + 1;
    }
    assert_int_equal(depth, 0);
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

static void a_whole_picture(void **state)
{
    (void)state;
    need_graphviz();
    fdl_module *g = model();
    for (int how = 0; how < 4; how++) {
        char *svg = fdl_graph_svg_text(g, .expand = how == 1, .flat = how == 2, .no_levels = how == 3);
        check_some(svg);
        check_well_formed(svg);
        assert_non_null(strstr(svg, "prefers-color-scheme: dark"));
        assert_non_null(strstr(svg, "#a&lt;b&gt;&amp;c\\"));
        assert_null(strstr(svg, "href"));
        assert_null(strstr(svg, "<script"));
        assert_int_equal(count(svg, "class=\"level\""), 0);
        static const int nodes[] = {9, 11, 6, 9};
        assert_int_equal(count(svg, "class=\"node\""), nodes[how]);
        assert_int_equal(count(svg, "class=\"cluster level\""), how == 3 ? 0 : 5);
        free(svg);
    }
    fdl_module_free(g);
}

static void to_a_file(void **state)
{
    (void)state;
    fdl_module *g = model();
    if (!has_graphviz()) {
        assert_int_equal(fdl_graph_svg(g, path_of("model.svg")), FDL_E_UNSUPPORTED);
        check_error(FDL_E_UNSUPPORTED, "libgraphviz");
        assert_int_equal(files_in_folder(), 0);
        fdl_module_free(g);
        return;
    }
    check_ok(fdl_graph_svg(g, path_of("model.svg"), .expand = true));
    size_t n;
    char *text = fdl_file_read(path_of("model.svg"), 0, &n);
    check_some(text);
    check_well_formed(text);
    assert_int_equal(count(text, "class=\"node\""), 11);
    assert_int_equal(files_in_folder(), 1);
    free(text);
    assert_int_equal(fdl_graph_svg(g, path_of("no/model.svg")), FDL_E_IO);
    check_error(FDL_E_IO, "no/model.svg");
    fdl_module_free(g);
}

/* Long chains, chains of residuals, and wide levels with references far back. */
static fdl_module *large(int n, int kind)
{
    fdl_flow_builder *b = fdl_flow_new();
    check_ok(fdl_flow_add(b, id()));
    char tag[32];
    for (int i = 1; i < n;) {
        if (kind == 0) {
            check_ok(fdl_flow_add(b, id()));
            i++;
        } else if (kind == 1) {
            check_ok(fdl_flow_add(b, fdl_flow_also(id())));
            i += 2;
        } else {
            check_ok(fdl_flow_add(b, fdl_flow_split(id(), id(), id(), id())));
            snprintf(tag, sizeof tag, "t%d", i);
            check_ok(fdl_flow_add(b, fdl_flow_tag_group(tag)));
            check_ok(fdl_flow_add(b, fdl_flow_merge(FDL_MERGE_ADD)));
            if (i > 50) {
                snprintf(tag, sizeof tag, "t%d_1", i - 50);
                check_ok(fdl_flow_add(b, fdl_flow_using(tag)));
            }
            i += 5;
        }
    }
    fdl_module *g = fdl_flow_build(b);
    check_some(g);
    return g;
}

static void thousands_of_nodes(void **state)
{
    (void)state;
    need_graphviz();
    for (int kind = 0; kind < 3; kind++) {
        fdl_module *g = large(5000, kind);
        double began = fdl_now();
        char *svg = fdl_graph_svg_text(g);
        double took = fdl_now() - began;
        check_some(svg);
        check_well_formed(svg);
        assert_int_equal(count(svg, "class=\"node\""), fdl_graph_node_count(g));
        print_message("%d nodes: %.1f s\n", fdl_graph_node_count(g), took);
        assert_true(took < 60); /* a second or two; by the library alone it is hours */
        free(svg);
        fdl_module_free(g);
    }
}

static void *draw_again(void *g)
{
    bool good = true;
    for (int i = 0; i < 5; i++) {
        char *svg = fdl_graph_svg_text(g);
        good = good && svg;
        free(svg);
    }
    return good ? g : NULL;
}

static void from_several_threads(void **state)
{
    (void)state;
    need_graphviz();
    pthread_t threads[4];
    fdl_module *g[4];
    for (int i = 0; i < 4; i++) {
        g[i] = model();
        assert_int_equal(pthread_create(&threads[i], NULL, draw_again, g[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *good;
        assert_int_equal(pthread_join(threads[i], &good), 0);
        assert_ptr_equal(good, g[i]);
        fdl_module_free(g[i]);
    }
}

/* Names of random bytes: each that a flow takes is drawn. */
static void names_of_random_bytes(void **state)
{
    (void)state;
    need_graphviz();
    static const char pieces[] = "<>&;#\\\"'/NGEl-!\xc3\xa4\xff\x80 ]";
    uint64_t seed = 7;
    int drawn = 0;
    for (int i = 0; i < 300; i++) {
        char name[16];
        int n = 0;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int length = 1 + (int)(seed >> 60) % 9;
        while (n < length) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            name[n++] = pieces[(seed >> 33) % (sizeof pieces - 1)];
        }
        name[n] = 0;
        fdl_module *g =
            fdl_flow(id(), fdl_flow_label(name), fdl_flow_tag(name), id(), fdl_flow_loop(id(), .n = 1));
        if (!g) {
            check_error(FDL_E_ARG, "fdl_flow");
            continue;
        }
        char *svg = fdl_graph_svg_text(g, .expand = i % 2);
        check_some(svg);
        check_well_formed(svg);
        free(svg);
        fdl_module_free(g);
        drawn++;
    }
    assert_true(drawn > 30);
}

static void wrong_calls(void **state)
{
    (void)state;
    assert_null(fdl_graph_svg_text(NULL));
    check_error(FDL_E_NULL, "fdl_graph_svg");
    fdl_module *m = fdl_nn_linear(2, 2);
    assert_null(fdl_graph_svg_text(m));
    check_error(FDL_E_ARG, "linear");
    assert_int_equal(fdl_graph_svg(m, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "file");
    fdl_module_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_picture),       cmocka_unit_test(to_a_file),
        cmocka_unit_test(thousands_of_nodes),    cmocka_unit_test(from_several_threads),
        cmocka_unit_test(names_of_random_bytes), cmocka_unit_test(wrong_calls),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
