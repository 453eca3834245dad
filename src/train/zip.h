/* Entries of a zip file, by libzip. In a build without it every file is FDL_E_UNSUPPORTED. */
#ifndef FLODL_TRAIN_ZIP_H
#define FLODL_TRAIN_ZIP_H

#include "source.h"

typedef struct zip_file_in zip_file_in;

/* The zip file that s holds, which must outlive it; owned, ended by zip_in_close. */
zip_file_in *zip_in_open(const source *s);
void zip_in_close(zip_file_in *z);
/* The name of the first entry that ends so, borrowed; NULL without an error: none. */
const char *zip_in_find(zip_file_in *z, const char *end);
/* Unpacked size of an entry. Not there, encrypted, or a size that its place in the file can't give: -1 and
 * FDL_E_FORMAT. */
int64_t zip_in_size(zip_file_in *z, const char *name);
/* The whole entry, which has n bytes. Its check sum is checked. */
fdl_status zip_in_read(zip_file_in *z, const char *name, void *out, size_t n);

#endif
