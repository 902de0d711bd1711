/* The loss head and the optimizer. */
#include "ops/reference/reference.h"

#include <math.h>

/* max(z) + log(sum(exp(z - max(z)))) of z = logits / temperature */
static double log_sum_exp(const float *logits, int64_t V, double temperature)
{
    double maximum = -INFINITY, sum = 0;

    for (int64_t i = 0; i < V; i++)
        maximum = logits[i] / temperature > maximum ? logits[i] / temperature : maximum;
    for (int64_t i = 0; i < V; i++)
        sum += exp(logits[i] / temperature - maximum);
    return maximum + log(sum);
}

void reference_token_logprob(void *context, struct tensor *logprob, struct tensor *entropy,
                             const struct tensor *logits, const struct tensor *targets,
                             float temperature)
{
    int64_t N = logits->shape[0], V = logits->shape[1];
    const int32_t *target = (const int32_t *)targets->data;

    (void)context;
    for (int64_t n = 0; n < N; n++) {
        const float *row = tensor_f32(logits) + n * V;
        double lse = log_sum_exp(row, V, temperature), h = 0;
        tensor_f32(logprob)[n] = (float)(row[target[n]] / (double)temperature - lse);
        for (int64_t i = 0; i < V; i++)
            h -= exp(row[i] / (double)temperature - lse) * (row[i] / (double)temperature - lse);
        if (entropy)
            tensor_f32(entropy)[n] = (float)h;
    }
}

void reference_token_logprob_backward(void *context, struct tensor *logits,
                                      const struct tensor *d_logprob, const struct tensor *targets,
                                      float temperature)
{
    int64_t N = logits->shape[0], V = logits->shape[1];
    const int32_t *target = (const int32_t *)targets->data;

    (void)context;
    for (int64_t n = 0; n < N; n++) {
        float *row = tensor_f32(logits) + n * V;
        double lse = log_sum_exp(row, V, temperature);
        for (int64_t i = 0; i < V; i++) {
            double p = exp(row[i] / (double)temperature - lse);
            row[i] = (float)(tensor_f32(d_logprob)[n] * ((i == target[n]) - p) / temperature);
        }
    }
}

double reference_sum_squares(void *context, const struct tensor *x)
{
    double sum = 0;

    (void)context;
    for (int64_t i = 0; i < tensor_count(x); i++)
        sum += (double)tensor_f32(x)[i] * tensor_f32(x)[i];
    return sum;
}

int reference_all_finite(void *context, const struct tensor *x)
{
    (void)context;
    for (int64_t i = 0; i < tensor_count(x); i++)
        if (!isfinite(tensor_f32(x)[i]))
            return 0;
    return 1;
}

void reference_adamw(void *context, struct tensor *weight, struct tensor *m, struct tensor *v,
                     const struct tensor *gradient, const struct adamw_step *adamw)
{
    double b1 = adamw->beta1, b2 = adamw->beta2, lr = adamw->learning_rate;
    double m_correction = 1 - pow(b1, (double)adamw->step);
    double v_correction = 1 - pow(b2, (double)adamw->step);

    (void)context;
    for (int64_t i = 0; i < tensor_count(weight); i++) {
        double w = tensor_f32(weight)[i], g = tensor_f32(gradient)[i] * adamw->gradient_scale;
        double mi = b1 * tensor_f32(m)[i] + (1 - b1) * g;
        double vi = b2 * tensor_f32(v)[i] + (1 - b2) * g * g;
        w -= lr * adamw->weight_decay * w;
        w -= lr * (mi / m_correction) / (sqrt(vi / v_correction) + adamw->epsilon);
        tensor_f32(weight)[i] = (float)w;
        tensor_f32(m)[i] = (float)mi;
        tensor_f32(v)[i] = (float)vi;
    }
}
