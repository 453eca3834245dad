/* Number formats, in the C locale and in one with a decimal comma; UTF-8. */
#include "check.h"

#include <locale.h>
#include <math.h>

static void durations(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } rows[] = {
        {0, "0ms"},          {0.042, "42ms"},         {0.9994, "999ms"},    {0.9996, "1s"},
        {1.5, "1.5s"},       {4.851, "4.8s"},         {2.0, "2s"},          {59.99, "59.9s"},
        {59.9996, "1m 00s"}, {90, "1m 30s"},          {3599.9, "59m 59s"},  {3600, "1h 00m"},
        {3661, "1h 01m"},    {172799, "47h 59m"},     {172800, "2d 00h"},   {270000, "3d 03h"},
        {-1, "\u2014"},      {NAN, "\u2014"},         {INFINITY, "\u2014"}, {1e300, "\u2014"},
        {-0.0, "0ms"},       {1e12, "11574074d 01h"},
    };
    char text[FDL_TEXT_SIZE];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(fdl_format_eta(rows[i].seconds, text, sizeof text), rows[i].text);
}

static void bytes(void **state)
{
    (void)state;
    static const struct {
        int64_t bytes;
        const char *text;
    } rows[] = {
        {0, "0 B"},
        {512, "512 B"},
        {1023, "1023 B"},
        {1024, "1 KB"},
        {512000, "500 KB"},
        {104857600, "100 MB"},
        {2254857830, "2.1 GB"},
        {INT64_C(85899345920), "80.0 GB"},
        {INT64_MAX, "8589934592.0 GB"},
        {-512, "-512 B"},
        {INT64_MIN, "-8589934592.0 GB"},
    };
    char text[FDL_TEXT_SIZE];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(fdl_format_bytes(rows[i].bytes, text, sizeof text), rows[i].text);
}

static const struct {
    double value;
    const char *text;
} metrics[] = {
    {0, "0"},
    {-0.0, "0"},
    {0.0001, "1.00e-4"},
    {-0.000123456, "-1.23e-4"},
    {1e-12, "1.00e-12"},
    {5e-324, "4.94e-324"},
    {0.000999999, "1.00e-3"},
    {0.001, "0.0010"},
    {0.2411, "0.2411"},
    {-0.5, "-0.5000"},
    {0.03125, "0.0313"}, /* a tie, away from zero: JavaScript's (0.03125).toFixed(4) */
    {-0.03125, "-0.0313"},
    {0.09375, "0.0938"},
    {99.99999, "100.0000"},
    {100, "100.00"},
    {100.125, "100.13"},
    {100.375, "100.38"},
    {1234567.891, "1234567.89"},
    {999999999999999.0, "999999999999999.00"},
    {1e15, "1.00e15"},
    {-1.7976931348623157e308, "-1.80e308"},
    {NAN, "nan"},
    {INFINITY, "inf"},
    {-INFINITY, "-inf"},
};

static void check_metrics(void)
{
    char text[FDL_TEXT_SIZE];
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        assert_string_equal(fdl_format_metric(metrics[i].value, text, sizeof text), metrics[i].text);
}

static void losses(void **state)
{
    (void)state;
    check_metrics();
    char text[4];
    assert_string_equal(fdl_format_metric(0.2411, text, sizeof text), "0.2");
    assert_string_equal(fdl_format_eta(90, text, sizeof text), "1m ");
}

static void other_locale(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE", "ps_AF.UTF-8"};
    bool found = false;
    for (size_t i = 0; i < sizeof names / sizeof *names && !found; i++)
        found = setlocale(LC_ALL, names[i]) && strcmp(localeconv()->decimal_point, ".") != 0;
    if (!found) {
        print_message("skipped: no locale with a decimal comma is installed\n");
        skip();
    }
    check_metrics();
    setlocale(LC_ALL, "C");
}

/* Every code point there and back; its bytes are those of the standard's table, checked at each border. */
static void characters(void **state)
{
    (void)state;
    static const struct {
        uint32_t code;
        const char *bytes;
    } borders[] = {{0x41, "A"},
                   {0x7f, "\x7f"},
                   {0x80, "\xc2\x80"},
                   {0xe9, "\xc3\xa9"},
                   {0x7ff, "\xdf\xbf"},
                   {0x800, "\xe0\xa0\x80"},
                   {0x20ac, "\xe2\x82\xac"},
                   {0xd7ff, "\xed\x9f\xbf"},
                   {0xe000, "\xee\x80\x80"},
                   {0xffff, "\xef\xbf\xbf"},
                   {0x10000, "\xf0\x90\x80\x80"},
                   {0x10ffff, "\xf4\x8f\xbf\xbf"}};
    char out[4];
    uint32_t code;
    for (size_t i = 0; i < sizeof borders / sizeof *borders; i++) {
        int size = (int)strlen(borders[i].bytes);
        assert_int_equal(fdl_utf8_encode(borders[i].code, out), size);
        assert_memory_equal(out, borders[i].bytes, (size_t)size);
    }
    for (uint32_t c = 0; c <= 0x110000; c++) {
        int size = fdl_utf8_encode(c, out);
        if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
            assert_int_equal(size, 0);
            continue;
        }
        assert_int_equal(fdl_utf8_decode(out, (size_t)size, &code), size);
        assert_int_equal(code, c);
        assert_int_equal(fdl_utf8_decode(out, (size_t)size - 1, &code), 0); /* cut short */
    }
}

/* All of 1, 2 and 3 bytes: what decodes is what encoding gives, nothing else does. */
static void malformed_characters(void **state)
{
    (void)state;
    char again[4];
    uint32_t code;
    long good[4] = {0};
    for (uint32_t x = 0; x < 1u << 24; x++) {
        unsigned char bytes[] = {(unsigned char)(x >> 16), (unsigned char)(x >> 8), (unsigned char)x};
        int size = fdl_utf8_decode(bytes, 3, &code);
        good[size]++;
        if (size && (fdl_utf8_encode(code, again) != size || memcmp(again, bytes, (size_t)size) != 0))
            fail_msg("%06x decodes to %x of %d bytes", x, code, size);
    }
    assert_int_equal(good[1], 128L << 16);
    assert_int_equal(good[2], 1920L << 8);
    assert_int_equal(good[3], 0x10000 - 0x800 - 2048);
    for (const char *const *bad =
             (const char *const[]){"\xf4\x90\x80\x80", "\xf0\x8f\xbf\xbf", "\xf5\x80\x80\x80", "\xf0\x90\x80",
                                   "\xf1\x80\x80\x41", NULL};
         *bad; bad++)
        assert_int_equal(fdl_utf8_decode(*bad, strlen(*bad), NULL), 0);
    assert_int_equal(fdl_utf8_decode("", 0, NULL), 0);
    assert_int_equal(fdl_utf8_decode(NULL, 0, NULL), 0);
    assert_int_equal(fdl_utf8_encode('a', NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters), cmocka_unit_test(malformed_characters),
        cmocka_unit_test(durations),  cmocka_unit_test(bytes),
        cmocka_unit_test(losses),     cmocka_unit_test(other_locale),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
