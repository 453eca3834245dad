/* The digits in examples/digits/digits_data.h are those of scikit-learn: sums that numpy made. */
#include "check.h"

#include "../examples/digits/digits_data.h"

static void sums(void **state)
{
    (void)state;
    static const int per_class[10] = {178, 182, 177, 183, 181, 182, 181, 179, 174, 180};
    int count[10] = {0};
    int64_t sum = 0, by_place = 0, by_image = 0, labels = 0;
    for (int i = 0; i < DIGITS_COUNT; i++) {
        assert_true(digits_labels[i] <= 9);
        count[digits_labels[i]]++;
        labels += (int64_t)i * digits_labels[i];
        for (int k = 0; k < 64; k++) {
            int v = digits_pixels[i * 64 + k];
            assert_true(v <= 16);
            sum += v;
            by_place += (int64_t)k * v;
            by_image += (int64_t)i * v;
        }
    }
    assert_memory_equal(count, per_class, sizeof count);
    assert_int_equal(sum, 561718);
    assert_int_equal(by_place, 17660653);
    assert_int_equal(by_image, 503342547);
    assert_int_equal(labels, 7264791);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums)};
    return cmocka_run_group_tests_name("digits", tests, NULL, NULL);
}
