#include "learner/guard.h"

#include <math.h>
#include <stddef.h>

#include "common/files.h"
#include "common/json.h"
#include "common/log.h"
#include "common/status.h"
#include "learner/internal.h"
#include "learner/optimizer.h"

#define MIN_WINDOW 8
#define FILE_MAX_BYTES ((size_t)1 << 20)

static const char *const actions[] = {"skip", "stop", NULL};

#define GUARD(key, type, text, low, high, choices, help)                                           \
    {#key, type, offsetof(struct guard_config, key), text, low, high, choices, help}
static const struct config_field fields[] = {
    GUARD(z_score, CONFIG_FLOAT, "0", 0, 1e6, NULL,
          "an optimizer step whose loss or gradient norm lies so many standard deviations above "
          "the mean of the last ones is an outlier; 0: none is"),
    GUARD(action, CONFIG_ENUM, "skip", 0, 0, actions,
          "what becomes of an outlier: its update is left out, or the run stops before it"),
    GUARD(window, CONFIG_INT, "64", MIN_WINDOW, GUARD_MAX_WINDOW, NULL,
          "optimizer steps that the mean is of; the first 8 are never outliers"),
    {0},
};
const struct config_section guard_config_section = {
    "guard", "outliers among optimizer steps; what is not finite always stops the run", fields,
    NULL};

static double z_of(const double *ring, int64_t n, double x)
{
    double mean = 0, squares = 0;

    for (int64_t i = 0; i < n; i++)
        mean += ring[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (ring[i] - mean) * (ring[i] - mean);
    double spread = sqrt(squares / (double)n) + fabs(mean) * 1e-3;
    return spread > 0 ? (x - mean) / spread : x > mean ? INFINITY : 0;
}

static int check_finite(double value, const char *what, int64_t update)
{
    if (isfinite(value))
        return STATUS_OK;
    return status_fail(STATUS_FAILED, "%s is %g at optimizer step %lld, and nothing was updated: "
                       "lower optimizer.learning_rate, or go on from an earlier checkpoint", what,
                       value, (long long)update);
}

int guard_look(struct guard *guard, double loss, double grad_norm, int64_t update,
               int *is_outlier)
{
    const struct guard_config *config = &guard->config;
    int64_t n = guard->n < config->window ? guard->n : config->window;

    *is_outlier = 0;
    TRY(check_finite(loss, "the loss", update));
    TRY(check_finite(grad_norm, "the gradient norm", update));
    if (config->z_score == 0)
        return STATUS_OK;
    double z_loss = z_of(guard->loss, n, loss), z_norm = z_of(guard->grad_norm, n, grad_norm);
    *is_outlier = n >= MIN_WINDOW && fmax(z_loss, z_norm) > config->z_score;
    if (*is_outlier && config->action == GUARD_STOP)
        return status_fail(STATUS_FAILED, "optimizer step %lld is an outlier: loss %g (z %.1f), "
                           "gradient norm %g (z %.1f), guard.z_score is %g; to leave it out: "
                           "--set guard.action=skip --accept-changes", (long long)update, loss,
                           z_loss, grad_norm, z_norm, config->z_score);
    if (*is_outlier)
        log_warning("optimizer step %lld is left out: loss %g (z %.1f), gradient norm %g (z %.1f)",
                    (long long)update, loss, z_loss, grad_norm, z_norm);
    guard->loss[guard->n % config->window] = loss;
    guard->grad_norm[guard->n % config->window] = grad_norm;
    guard->n++;
    return STATUS_OK;
}

/* ---- In a checkpoint. */

static void print_ring(struct text *out, const char *name, const double *ring, int64_t n)
{
    text_print(out, ",\n  \"%s\": [", name);
    for (int64_t i = 0; i < n; i++)
        text_print(out, "%s%.17g", i ? ", " : "", ring[i]);
    text_print(out, "]");
}

int guard_save(const struct guard *guard, const char *path)
{
    int64_t window = guard->config.window, n = guard->n < window ? guard->n : window;
    struct text text = {0};

    text_print(&text, "{\"window\": %lld, \"n\": %lld", (long long)window, (long long)guard->n);
    print_ring(&text, "loss", guard->loss, n);
    print_ring(&text, "grad_norm", guard->grad_norm, n);
    text_print(&text, "\n}\n");
    int status = file_write_atomic(path, text.data, text.length);
    text_release(&text);
    return status;
}

static int read_ring(const json_t *file, const char *name, const char *path, double *ring,
                     int64_t n)
{
    const json_t *list = json_object_get(file, name);

    if (!json_is_array(list) || (int64_t)json_array_size(list) != n)
        return status_fail(STATUS_FORMAT, "%s: \"%s\" is no list of %lld numbers", path, name,
                           (long long)n);
    for (int64_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        if (!json_is_number(value))
            return status_fail(STATUS_FORMAT, "%s: \"%s\" holds what is no number", path, name);
        ring[i] = json_number_value(value);
    }
    return STATUS_OK;
}

static int read_window(struct guard *guard, const json_t *file, const char *path)
{
    int64_t window, n;

    TRY(json_get_int(file, "window", path, &window));
    TRY(json_get_int(file, "n", path, &n));
    if (n < 0)
        return status_fail(STATUS_FORMAT, "%s: \"n\" is %lld", path, (long long)n);
    if (window != guard->config.window) {
        log_warning("%s is of guard.window %lld and not of %lld: the guard begins anew", path,
                    (long long)window, (long long)guard->config.window);
        return STATUS_OK;
    }
    guard->n = n;
    n = n < window ? n : window;
    TRY(read_ring(file, "loss", path, guard->loss, n));
    return read_ring(file, "grad_norm", path, guard->grad_norm, n);
}

int guard_load(struct guard *guard, const char *path)
{
    json_t *file;

    TRY(json_read_file(&file, path, FILE_MAX_BYTES));
    int status = read_window(guard, file, path);
    json_decref(file);
    return status;
}

/* ---- Around the optimizer. */

void learner_set_guard_here(struct learner *learner, const struct guard_config *config)
{
    learner->guard->config = *config;
}

static int check_weights(const struct learner *learner)
{
    for (size_t i = 0; i < model_n_trained(learner->policy); i++) {
        struct tensor weight;
        const char *name = model_trained(learner->policy, i, &weight, NULL);
        if (!isfinite(ops_sum_squares(model_ops(learner->policy), &weight)))
            return status_fail(STATUS_FAILED, "%s is no longer finite after optimizer step %lld, "
                               "and was neither published nor saved: lower "
                               "optimizer.learning_rate, or go on from an earlier checkpoint", name,
                               (long long)optimizer_updates(learner->optimizer) - 1);
    }
    return STATUS_OK;
}

int learner_update(struct learner *learner, int passed, struct learner_totals *totals)
{
    struct learner_totals all;
    int is_outlier;

    TRY(learner_merge(learner, passed, totals, &all));
    TRY(shards_end(optimizer_shards(learner->optimizer)));
    double loss = all.loss_sum - totals->loss_before;
    totals->loss_before = all.loss_sum;
    TRY(optimizer_grad_norm(learner->optimizer, &totals->grad_norm));
    TRY(guard_look(learner->guard, loss, totals->grad_norm, optimizer_updates(learner->optimizer),
                   &is_outlier));
    totals->skipped += is_outlier;
    if (is_outlier)
        return STATUS_OK;
    TRY(optimizer_update(learner->optimizer, totals->grad_norm, &totals->learning_rate));
    return check_weights(learner);
}
