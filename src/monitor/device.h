/* The memory of the GPUs that this process uses, as far as flodl's own functions tell it. */
#ifndef FLODL_MONITOR_DEVICE_H
#define FLODL_MONITOR_DEVICE_H

#include "line.h"

enum { MONITOR_MAX_DEVICES = 64 };

typedef struct monitor_device {
    int index;
    int64_t reserved, total; /* bytes: what this process's allocator holds; what the device has */
} monitor_device;

/* The devices on which this process holds memory, at most MONITOR_MAX_DEVICES, their number. Leaves no error
 * behind. */
int monitor_devices_read(monitor_device *devices);
/* "VRAM: 2.1/6.0 GB", of several "GPU0: 2.1/16.0 GB  GPU1: 1.0/16.0 GB"; with what is over as "spill 0.4 GB".
 */
void monitor_devices_line(monitor_line *line, const monitor_device *devices, int n);

#endif
