/* The characters of a text and their numbers, for models that read or write text.
 *
 *     fdl_vocab *v = fdl_vocab_chars(text, size);
 *     fdl_tensor *ids = fdl_vocab_encode(v, text, size);          int64 [characters]
 *     fdl_dataset *ds = fdl_data_windows(ids, 64, .stride = 1);   data.h
 *     puts(fdl_vocab_decode(v, ids));
 */
#ifndef FLODL_VOCAB_H
#define FLODL_VOCAB_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* Distinct characters in ascending order of their code points, numbered from 0. It never changes: any number of
 * threads may use it. */
typedef struct fdl_vocab fdl_vocab;

/* The characters that occur in the n bytes at text, which are UTF-8. Owned: fdl_vocab_free. No character: FDL_E_ARG;
 * bytes that aren't UTF-8: FDL_E_FORMAT with their place. */
FDL_API fdl_vocab *fdl_vocab_chars(const char *text, size_t n);
/* NULL: nothing. */
FDL_API void fdl_vocab_free(fdl_vocab *v);
/* Number of characters; -1 on NULL. */
FDL_API int64_t fdl_vocab_size(const fdl_vocab *v);
/* The numbers of the characters in n bytes of UTF-8: int64 [characters], CPU (scope). A character that isn't in the
 * vocabulary: FDL_E_ARG, bytes that aren't UTF-8: FDL_E_FORMAT, both with the place. */
FDL_API fdl_tensor *fdl_vocab_encode(const fdl_vocab *v, const char *text, size_t n);
/* The text of numbers, in row-major order: whole-numbered ids [*] on any device; waits for it. A number outside of the
 * vocabulary is "?". Scope. Floating ids: FDL_E_DTYPE. */
FDL_API char *fdl_vocab_decode(const fdl_vocab *v, fdl_tensor *ids);

FDL_END_DECLS

#endif
