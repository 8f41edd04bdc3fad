"""The C that `c_source` fills in and puts together.

An activation is a row: what C makes of one z.  Sums begin with the bias and go through the inputs
in their order, so that compilers that contract nothing round them alike.

``$T`` stands for the type, ``$f`` and ``$F`` end its functions and constants, ``${N}`` begins every
name and ``${M}`` every macro.
"""

from __future__ import annotations

__all__ = [
    "ACTIVATIONS",
    "DENSE",
    "DENSE_OF_BYTES",
    "EACH",
    "EMBEDDED",
    "LARGEST",
    "PARTS",
    "ROWS",
    "SIDE",
    "TEST",
]

#: What becomes of z, by activation; None where it takes all z of a layer together.
ACTIVATIONS: dict[str, str | None] = {
    "identity": "z",
    "sigmoid": "z < 0 ? exp$f(z) / (1 + exp$f(z)) : 1 / (1 + exp$f(-z))",
    "tanh": "tanh$f(z)",
    "relu": "z < 0 ? 0 : z",
    "softmax": None,
    "leaky_relu": "z < 0 ? 0.01$F * z : z",
    "elu": "z < 0 ? expm1$f(z) : z",
    "selu": "1.0507009873554805$F * (z < 0 ? 1.6732632423543772$F * expm1$f(z) : z)",
    "gelu": "z * erfc$f(z * -0.70710678118654752$F) / 2",
    "silu": "z / (1 + exp$f(-z))",
    "softplus": "(z > 0 ? z : 0) + log1p$f(exp$f(-fabs$f(z)))",
    "mish": "z * tanh$f((z > 0 ? z : 0) + log1p$f(exp$f(-fabs$f(z))))",
    "softsign": "z / (1 + fabs$f(z))",
    "hard_sigmoid": "z < -3 ? 0 : z > 3 ? 1 : (z + 3) / 6",
    "exp": "exp$f(z)",
    "sin": "sin$f(z)",
    "increasing": None,
}

EMBEDDED = """\
/* A code as an index; beyond its table it counts as the nearest one. */
static int ${N}_code($T x, int size)
{
    return !(x > 0) ? 0 : x >= ($T)size ? size - 1 : (int)x;
}

/* The columns that pass, then the vectors of the codes. */
static void ${N}_embed(const $T *restrict x, $T *restrict z)
{
    const $T *v;
    int k;
$lines}
"""

#: What each kind of part is called with behind its columns, and its function.
PARTS: dict[str, str] = {
    "LayerNorm": """\
/* scale (a - mean) / sqrt(variance + epsilon) + shift. */
static void ${N}_layer_norm($T *restrict a, int n, const $T *scale, const $T *shift, $T epsilon)
{
    $T mean = 0, variance = 0, by;
    int k;
    for (k = 0; k < n; k++)
        mean += a[k];
    mean /= ($T)n;
    for (k = 0; k < n; k++)
        variance += (a[k] - mean) * (a[k] - mean);
    by = 1 / sqrt$f(variance / ($T)n + epsilon);
    for (k = 0; k < n; k++)
        a[k] = scale[k] * ((a[k] - mean) * by) + shift[k];
}
""",
    "RMSNorm": """\
/* scale a / sqrt(mean(a^2) + epsilon). */
static void ${N}_rms_norm($T *restrict a, int n, const $T *scale, $T epsilon)
{
    $T square = 0, by;
    int k;
    for (k = 0; k < n; k++)
        square += a[k] * a[k];
    by = 1 / sqrt$f(square / ($T)n + epsilon);
    for (k = 0; k < n; k++)
        a[k] = scale[k] * (a[k] * by);
}
""",
    "line": """\
/* (a - mean) factor + rest. */
static void ${N}_line($T *restrict a, int n, const $T *mean, const $T *factor, const $T *rest)
{
    int k;
    for (k = 0; k < n; k++)
        a[k] = (a[k] - mean[k]) * factor[k] + rest[k];
}
""",
    "PReLU": """\
static void ${N}_prelu($T *restrict a, int n, const $T *slope)
{
    int k;
    for (k = 0; k < n; k++)
        a[k] = a[k] < 0 ? slope[k] * a[k] : a[k];
}
""",
    "NumericEmbedding": """\
/* max(0, W v + b) of each column, v the sines, then the cosines, of 2 pi c x; then what passes. */
static void ${N}_waves(const $T *restrict x, int columns, int passing, const $T *c, int frequencies,
    const $T *w, const $T *b, int dimension, $T *restrict v, $T *restrict z)
{
    int i, j, k;
    for (j = 0; j < columns; j++, c += frequencies, b += dimension, z += dimension) {
        for (k = 0; k < frequencies; k++) {
            /* Whole turns do nothing. */
            const $T turns = c[k] * x[j], t = (turns - rint$f(turns)) * 6.283185307179586$F;
            v[k] = sin$f(t);
            v[frequencies + k] = cos$f(t);
        }
        for (k = 0; k < dimension; k++)
            z[k] = b[k];
        for (i = 0; i < 2 * frequencies; i++, w += dimension)
            for (k = 0; k < dimension; k++)
                z[k] += v[i] * w[k];
        for (k = 0; k < dimension; k++)
            z[k] = z[k] < 0 ? 0 : z[k];
    }
    for (j = 0; j < passing; j++)
        z[j] = x[columns + j];
}
""",
    "add": """\
static void ${N}_add($T *restrict a, int n, const $T *x)
{
    int k;
    for (k = 0; k < n; k++)
        a[k] += x[k];
}
""",
    "copy": """\
static void ${N}_copy($T *restrict a, int n, const $T *x)
{
    int k;
    for (k = 0; k < n; k++)
        a[k] = x[k];
}
""",
}

EACH = """\
static void ${N}_$activation($T *restrict a, int n)
{
    int k;
    for (k = 0; k < n; k++) {
        const $T z = a[k];
        a[k] = $formula;
    }
}
"""

_SOFTMAX = """\
/* exp(z_k) / sum_j exp(z_j), shifted by the largest z so that nothing overflows. */
static void ${N}_softmax($T *restrict a, int n)
{
    $T highest = a[0], sum = 0;
    int k;
    for (k = 1; k < n; k++)
        highest = a[k] > highest ? a[k] : highest;
    for (k = 0; k < n; k++) {
        a[k] = exp$f(a[k] - highest);
        sum += a[k];
    }
    for (k = 0; k < n; k++)
        a[k] /= sum;
}
"""

_INCREASING = """\
/* z_0, then what is before plus log(1 + exp(z_k)). */
static void ${N}_increasing($T *restrict a, int n)
{
    int k;
    for (k = 1; k < n; k++) {
        const $T z = a[k];
        a[k] = a[k - 1] + ((z > 0 ? z : 0) + log1p$f(exp$f(-fabs$f(z))));
    }
}
"""

#: The functions of those that take all z of a layer together.
ROWS: dict[str, str] = {"softmax": _SOFTMAX, "increasing": _INCREASING}

DENSE = """\
/* z = b + x W, with W row by row. */
static void ${N}_dense(const $T *restrict x, int inputs, const $T *restrict w, const $T *b,
    int outputs, $T *restrict z)
{
    int i = 0, k;
    for (k = 0; k < outputs; k++)
        z[k] = b ? b[k] : 0;
    /* Four inputs at a time: z is read and written a quarter as often. */
    for (; i + 4 <= inputs; i += 4) {
        const $T *restrict v = w + outputs, *restrict u = v + outputs, *restrict t = u + outputs;
        const $T p = x[i], q = x[i + 1], r = x[i + 2], s = x[i + 3];
        for (k = 0; k < outputs; k++)
            z[k] = z[k] + p * w[k] + q * v[k] + r * u[k] + s * t[k];
        w = t + outputs;
    }
    for (; i < inputs; i++, w += outputs) {
        const $T p = x[i];
        for (k = 0; k < outputs; k++)
            z[k] += p * w[k];
    }
}
"""

DENSE_OF_BYTES = """\
/* z = b + (x W) scale, with W row by row, a byte each, and a scale for each output. */
static void ${N}_dense(const $T *restrict x, int inputs, const signed char *restrict w,
    const $T *scale, const $T *b, int outputs, $T *restrict z)
{
    int i, k;
    for (k = 0; k < outputs; k++)
        z[k] = 0;
    for (i = 0; i < inputs; i++, w += outputs) {
        const $T p = x[i];
        for (k = 0; k < outputs; k++)
            z[k] += p * ($T)w[k];
    }
    for (k = 0; k < outputs; k++)
        z[k] = z[k] * scale[k] + (b ? b[k] : 0);
}
"""

LARGEST = """\
int ${N}_class(const $T *x)
{
    $T y[$outputs];
    int k, best = 0;
    ${N}_predict(x, y);
    for (k = 1; k < $outputs; k++)
        best = y[k] > y[best] ? k : best;
    return best;
}
"""

SIDE = """\
int ${N}_class(const $T *x)
{
    $T y[1];
    ${N}_predict(x, y);
    return y[0] > $threshold;
}
"""

TEST = """\
#ifdef ${M}_SELF_TEST
#include <stdio.h>

$rows
int main(void)
{
    $T largest = 0, apart = 0, y[$outputs];
    int i, k;
    for (i = 0; i < $count; i++) {
        ${N}_predict(${N}_rows + i * $inputs, y);
        for (k = 0; k < $outputs; k++) {
            const $T wanted = ${N}_answers[i * $outputs + k], off = fabs$f(y[k] - wanted);
            largest = fabs$f(wanted) > largest ? fabs$f(wanted) : largest;
            apart = off <= apart ? apart : off;
        }
    }
    printf("%s: $count rows, at most %.3g apart, of at most %.3g\\n",
        apart <= $tolerance * largest ? "passed" : "FAILED", (double)apart, (double)largest);
    return apart <= $tolerance * largest ? 0 : 1;
}
#endif
"""
