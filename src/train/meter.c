/* The losses of a trainer: the last one, their sum, whether one was not finite. On a device three small kernels a step,
 * and no wait. In a recorded step they run beside the backward, and what they find goes to the host's memory at once: who
 * reads the loss of a recorded step waits for its forward only. */
#include "flodl/arithmetic.h"
#include "flodl/index.h"
#include "flodl/inplace.h"
#include "flodl/kernels.h"
#include "flodl/shape.h"
#include "trainer.h"

#include <math.h>

void trainer_meter_free(trainer_meter *m)
{
    fdl_tensor **all[] = {&m->pack, &m->loss, &m->found, &m->total, &m->sum_to, &m->after, &m->one};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        fdl_free(*all[i]);
        *all[i] = NULL;
    }
    fdl_free(m->told);
    fdl_cuda_event_free(m->telling);
    fdl_cuda_stream_free(m->side);
    m->told = NULL;
    m->telling = NULL;
    m->side = NULL;
    m->is_told = false;
    m->generation += m->placed;
    m->placed = false;
}

/* ---- beside the step ---------------------------------------------------------------------------------- */

fdl_status trainer_meter_join(trainer_meter *m)
{
    if (!m->aside)
        return FDL_OK;
    fdl_stream *step = fdl_cuda_stream_current(m->device);
    fdl_status status = step ? fdl_cuda_stream_wait_stream(step, m->side) : fdl_error_pending();
    fdl_cuda_stream_free(step);
    trainer_meter_abandon(m);
    return status;
}

void trainer_meter_abandon(trainer_meter *m)
{
    fdl_free(m->held);
    m->held = NULL;
    m->aside = false;
}

/* The side stream may begin, and the loss stays as it is until the step waits for it. */
static fdl_status go_aside(trainer_meter *m, fdl_tensor *loss)
{
    fdl_stream *step = fdl_cuda_stream_current(m->device);
    fdl_status status = step ? FDL_OK : fdl_error_pending();
    for (int tries = 0; status == FDL_OK && (!m->side || fdl_cuda_stream_eq(m->side, step)); tries++) {
        fdl_cuda_stream_free(m->side);
        m->side = fdl_cuda_stream_new(m->device);
        status = m->side && tries < 64 ? FDL_OK : fdl_fail(FDL_E_STATE, "trainer: no free stream");
    }
    if (status == FDL_OK)
        status = fdl_cuda_stream_wait_stream(m->side, step);
    fdl_cuda_stream_free(step);
    if (status != FDL_OK)
        return status;
    m->aside = true;
    m->held = fdl_keep(loss);
    return m->held ? FDL_OK : fdl_error_pending();
}

/* ---- reading --------------------------------------------------------------------------------------- */

fdl_status trainer_stopped(const fdl_trainer *tr)
{
    return fdl_fail(FDL_E_ARG, "trainer: the loss of step %lld is not finite; training stopped there",
                    (long long)tr->bad_step);
}

/* The device's sums into *sum and *left_out; finds out whether training has stopped. Waits. */
static fdl_status read_total(fdl_trainer *tr, double *sum, int64_t *left_out)
{
    trainer_meter *m = &tr->meter;
    *sum = 0;
    *left_out = 0;
    if (!m->placed)
        return FDL_OK;
    double total[2], pack[2];
    FDL_TRY(fdl_to_f64(m->total, total, 2));
    *sum = total[0];
    if (tr->o.on_nonfinite == FDL_NONFINITE_SKIP)
        *left_out = (int64_t)total[1];
    if (tr->o.on_nonfinite != FDL_NONFINITE_STOP || tr->bad_step || isfinite(total[0]))
        return FDL_OK;
    FDL_TRY(fdl_to_f64(m->pack, pack, 2)); /* a sum can overflow where no loss did */
    if (pack[1] != 0)
        tr->bad_step = tr->steps - (int64_t)total[1] + 1;
    return FDL_OK;
}

fdl_status fdl_trainer_loss(fdl_trainer *tr, double *loss)
{
    if (!tr || !loss)
        return fdl_null_operand(__func__, tr ? "loss" : "tr");
    trainer_meter *m = &tr->meter;
    *loss = (double)NAN;
    if (m->any && m->last_on_host) {
        *loss = m->last;
    } else if (m->any) {
        float pack[2]; /* as they are: nothing is launched to convert them */
        double sum;
        int64_t left_out;
        if (m->is_told) {
            FDL_TRY(fdl_cuda_event_synchronize(m->telling));
            memcpy(pack, fdl_data_ptr(m->told), sizeof pack);
        } else {
            FDL_TRY(fdl_to_f32(m->pack, pack, 2));
        }
        *loss = m->dtype == FDL_FLOAT64 ? fdl_item(m->loss) : (double)pack[0];
        if (pack[1] != 0 && tr->o.on_nonfinite == FDL_NONFINITE_STOP && !tr->bad_step)
            FDL_TRY(read_total(tr, &sum, &left_out));
    }
    return tr->bad_step ? trainer_stopped(tr) : FDL_OK;
}

fdl_status trainer_meter_read(fdl_trainer *tr, int64_t *n, double *sum)
{
    trainer_meter *m = &tr->meter;
    double there;
    int64_t left_out;
    FDL_TRY(read_total(tr, &there, &left_out));
    if (tr->bad_step)
        return trainer_stopped(tr);
    *n = m->count - m->left_out - left_out;
    *sum = m->sum + there;
    return FDL_OK;
}

fdl_status trainer_meter_set(fdl_trainer *tr, int64_t n, double sum)
{
    trainer_meter *m = &tr->meter;
    m->count = n;
    m->left_out = 0;
    m->sum = m->placed ? 0 : sum;
    m->any = false;
    if (!m->placed)
        return FDL_OK;
    FDL_TRY(fdl_zero_(m->total));
    return sum != 0 ? fdl_fill_(m->sum_to, sum) : FDL_OK; /* one sum in one order */
}

fdl_status fdl_trainer_mean_loss(fdl_trainer *tr, double *loss)
{
    if (!tr || !loss)
        return fdl_null_operand(__func__, tr ? "loss" : "tr");
    bool any = tr->meter.any;
    *loss = (double)NAN;
    double sum;
    int64_t n;
    FDL_TRY(trainer_meter_read(tr, &n, &sum));
    if (n > 0)
        *loss = sum / (double)n;
    FDL_TRY(trainer_meter_set(tr, 0, 0));
    tr->meter.any = any;
    return FDL_OK;
}

/* ---- noting ---------------------------------------------------------------------------------------- */

static fdl_status take_on_host(fdl_trainer *tr, double loss)
{
    trainer_meter *m = &tr->meter;
    m->last_on_host = true;
    m->last = loss;
    if (!isfinite(loss) && tr->o.on_nonfinite == FDL_NONFINITE_STOP) {
        tr->bad_step = tr->steps + 1;
        return trainer_stopped(tr);
    }
    if (!isfinite(loss) && tr->o.on_nonfinite == FDL_NONFINITE_SKIP)
        tr->skip_group = true;
    if (tr->skip_group)
        m->left_out++;
    else
        m->sum += loss;
    return FDL_OK;
}

/* The tensors for losses of that device and dtype. What others have gathered goes to the host first. */
static fdl_status place(fdl_trainer *tr, fdl_device device, fdl_dtype dtype)
{
    trainer_meter *m = &tr->meter;
    double sum;
    int64_t left_out;
    FDL_TRY(read_total(tr, &sum, &left_out));
    if (tr->bad_step)
        return trainer_stopped(tr);
    m->sum += sum;
    m->left_out += left_out;
    trainer_meter_free(m);
    m->pack = fdl_keep(fdl_zeros(FDL_SHAPE(2), .dtype = FDL_FLOAT32, .device = device));
    /* one sum in one order, also of a run that goes on */
    m->total = fdl_keep(fdl_zeros(FDL_SHAPE(2), .dtype = FDL_FLOAT64, .device = device));
    m->one = fdl_keep(fdl_scalar(1, .dtype = FDL_FLOAT32, .device = device));
    m->loss = fdl_keep(dtype == FDL_FLOAT64 ? fdl_scalar(0, .dtype = FDL_FLOAT64, .device = device)
                                            : fdl_select(m->pack, 0, 0));
    m->found = fdl_keep(fdl_select(m->pack, 0, 1));
    m->sum_to = fdl_keep(fdl_select(m->total, 0, 0));
    m->after = fdl_keep(fdl_select(m->total, 0, 1));
    if (dtype != FDL_FLOAT64) {
        m->told =
            fdl_keep(fdl_zeros(FDL_SHAPE(2), .dtype = FDL_FLOAT32, .device = FDL_CPU, .pin_memory = true));
        m->telling = fdl_cuda_event_new(.external = true);
    }
    bool tells = dtype == FDL_FLOAT64 || (m->told && m->telling);
    /* Filled, not copied from the host, which a step that is recorded must not do. */
    if (m->sum_to && m->sum != 0)
        tells = fdl_fill_(m->sum_to, m->sum) == FDL_OK && tells;
    if (!m->pack || !m->total || !m->one || !m->loss || !m->found || !m->sum_to || !m->after || !tells) {
        trainer_meter_free(m);
        return fdl_error_pending();
    }
    m->sum = 0;
    m->device = device;
    m->dtype = dtype;
    m->placed = true;
    return FDL_OK;
}

/* Whether sum and count of steps are one addition: total += pack. */
static bool in_one(const fdl_trainer *tr)
{
    return tr->o.on_nonfinite == FDL_NONFINITE_STOP && tr->o.accumulate == 1 &&
           tr->meter.dtype == FDL_FLOAT32;
}

/* Notes the loss in the device's tensors. */
static fdl_status note(fdl_trainer *tr, fdl_tensor *loss, trainer_part part)
{
    trainer_meter *m = &tr->meter;
    bool skips = tr->o.on_nonfinite == FDL_NONFINITE_SKIP;
    if (skips && part.first)
        FDL_TRY(fdl_zero_(m->found));
    FDL_TRY(fdl_copy_(m->loss, fdl_ndim(loss) ? fdl_reshape(loss, FDL_SCALAR) : loss));
    if (tr->o.on_nonfinite == FDL_NONFINITE_GO_ON)
        return fdl_add_(m->sum_to, m->loss);
    FDL_TRY(fdl_k_amp_unscale_((fdl_list){1, &m->loss}, m->found,
                               m->one)); /* the one kernel that looks without telling */
    if (in_one(tr))
        return fdl_add_(m->total, m->pack);
    if (!skips)
        return fdl_add_(m->sum_to, m->loss);
    fdl_tensor *good = fdl_masked_fill(m->loss, fdl_bool(m->found), 0);
    FDL_TRY(fdl_add_(m->sum_to, good));
    return fdl_add_(m->after, m->found);
}

static fdl_status note_aside(fdl_trainer *tr, fdl_tensor *loss, trainer_part part)
{
    trainer_meter *m = &tr->meter;
    FDL_TRY(go_aside(m, loss));
    FDL_STREAM(m->side);
    FDL_TRY(note(tr, loss, part));
    if (!m->told)
        return FDL_OK;
    FDL_TRY(fdl_copy_(m->told, m->pack, .non_blocking = true));
    return fdl_cuda_event_record_on(m->telling, m->side);
}

fdl_status trainer_meter_take(fdl_trainer *tr, fdl_tensor *loss, trainer_part part)
{
    trainer_meter *m = &tr->meter;
    fdl_device device = fdl_device_of(loss);
    if (device.type == FDL_DEVICE_TYPE_CPU)
        return take_on_host(tr, fdl_item(loss));
    FDL_NO_GRAD;
    fdl_dtype dtype = fdl_dtype_of(loss) == FDL_FLOAT64 ? FDL_FLOAT64 : FDL_FLOAT32;
    if (!m->placed || m->dtype != dtype || !fdl_device_eq(m->device, device))
        FDL_TRY(place(tr, device, dtype));
    m->last_on_host = m->is_told = false;
    return fdl_cuda_is_capturing() ? note_aside(tr, loss, part) : note(tr, loss, part);
}

void trainer_meter_replayed(fdl_trainer *tr)
{
    tr->meter.last_on_host = false;
    tr->meter.is_told = tr->meter.told != NULL;
}

fdl_status trainer_meter_group(fdl_trainer *tr, fdl_tensor **skip)
{
    trainer_meter *m = &tr->meter;
    *skip = NULL;
    if (!m->placed || m->last_on_host || tr->o.on_nonfinite == FDL_NONFINITE_GO_ON)
        return FDL_OK;
    if (tr->o.on_nonfinite == FDL_NONFINITE_SKIP) {
        *skip = m->found;
        return trainer_meter_join(m);
    }
    if (in_one(tr))
        return FDL_OK;
    FDL_NO_GRAD;
    FDL_TRY(trainer_meter_join(m));
    return fdl_add_(m->after, m->found);
}
