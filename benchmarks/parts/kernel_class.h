/* What a GPU's kernel does, by its name: the table of kernel_classes.txt. */
#ifndef BENCHMARKS_KERNEL_CLASS_H
#define BENCHMARKS_KERNEL_CLASS_H

enum { KERNEL_CLASSES_MAX = 24 };

/* The classes' names, in the table's order, "other" last; NULL ends them. NULL with a message on stderr: the table can't be read. */
const char *const *kernel_class_names(void);

/* Which of them it is. -1: the table can't be read. */
int kernel_class_of(const char *name);

#endif
