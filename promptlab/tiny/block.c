/* A block of the model, forward and backward, for training: what its autograd function (`block.py`) calls.

   Every sum is taken in an order that depends neither on the number of threads nor on what is beside it in the batch.

   B rows of T tokens, N = B T, C channels, H heads of D channels, F channels of the MLP, 0 up to a multiple of 16. C and
   D are multiples of 16. What is a gradient begins with d. */

#include "vectors.h"

enum { SLICE = 96, QUERIES = 24, AT_HAND = 192 }; /* tokens: of a product, that look together, on their way together */
enum { WHOLE = 64 }; /* a multiple of any panel */

typedef struct {
    const float *norm_1, *q, *k, *v, *out, *norm_2, *gate, *up, *down; /* as the model has them: (outputs, inputs) */
    int64_t ff;                                                        /* F of the model, without those that are 0 */
} Weights;

/* As products take them: transposed to go forward, as they are on the way back. */
typedef struct {
    Matrix qkv, out, gate_up, down;
} Packed;

typedef struct {
    int64_t rows, length, n_heads, d_head, d_ff, causal, turn_row;
    float eps;
    const float *cos, *sin; /* (T, D) of each row, `turn_row` numbers apart, or of all; of D only half is read */
    Weights of;
    Packed packed;
    /* forward: x, what is kept for the way back, and y */
    const float *x;   /* (N, C) */
    float *scale_1;   /* (N), one over the root mean square of x */
    float *qkv;       /* (N, 3 C), turned, queries divided by the root of D */
    float *power;     /* (B, H, T), the logarithm of the softmax's denominator */
    float *seen;      /* (N, C), what attention gives */
    float *between;   /* (N, C), behind attention */
    float *scale_2;   /* (N) */
    float *gate_up;   /* (N, 2 F) */
    float *y;         /* (N, C) */
    /* backward: dy, what the weights' gradients are made of, and dx */
    const float *dy;   /* (N, C) */
    float *activated;  /* (N, F) */
    float *d_gate_up;  /* (N, 2 F) */
    float *normed_2;   /* (N, C) */
    float *d_normed_2; /* (N, C) */
    float *d_between;  /* (N, C) */
    float *d_seen;     /* (N, C) */
    float *d_qkv;      /* (N, 3 C) */
    float *normed_1;   /* (N, C) */
    float *d_normed_1; /* (N, C) */
    float *dx;         /* (N, C) */
    /* gradients of the weights, each NULL where it is not asked for: as `of`, those of the same input in one */
    float *dw_norm_1, *dw_qkv, *dw_out, *dw_norm_2, *dw_gate, *dw_up, *dw_down;
} Step;

static inline int64_t up_to(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* n rows of d numbers; not by memcpy, which is slow to begin. */
INLINE void copy(const float *x, int64_t x_row, int64_t n, int64_t d, float *y, int64_t y_row) {
    for (int64_t i = 0; i < n; i++, x += x_row, y += y_row) {
        int64_t j = 0;
        for (; j + WIDTH <= d; j += WIDTH) store(y + j, load(x + j));
        for (; j < d; j++) y[j] = x[j];
    }
}

/* ---- weights */

/* The transpose of w (outputs, inputs) as columns from `first` on of a matrix whose panels are 0. */
static void as_columns(const float *w, int64_t outputs, int64_t inputs, Matrix to, int64_t first) {
    for (int64_t n = 0; n < outputs; n++) {
        float *column = (float *)to.panels + (first + n) / PANEL * PANEL * to.inputs + (first + n) % PANEL;
        for (int64_t k = 0; k < inputs; k++) column[k * PANEL] = w[n * inputs + k];
    }
}

/* w (outputs, inputs) as rows from `first` on of a matrix whose panels are 0. */
static void as_rows(const float *w, int64_t outputs, int64_t inputs, Matrix to, int64_t first) {
    for (int64_t k = 0; k < inputs; k += PANEL)
        copy(w + k, inputs, outputs, least(PANEL, inputs - k), (float *)to.panels + k * to.inputs + first * PANEL, PANEL);
}

/* Fills the matrices in, for the way forward or back. */
void pack(const Step *s, int64_t back) {
    void (*lay)(const float *, int64_t, int64_t, Matrix, int64_t) = back ? as_rows : as_columns;
    int64_t C = s->n_heads * s->d_head;
    Weights w = s->of;
    Packed p = s->packed;
    lay(w.q, C, C, p.qkv, 0);
    lay(w.k, C, C, p.qkv, C);
    lay(w.v, C, C, p.qkv, 2 * C);
    lay(w.out, C, C, p.out, 0);
    lay(w.gate, w.ff, C, p.gate_up, 0);
    lay(w.up, w.ff, C, p.gate_up, s->d_ff);
    lay(w.down, C, w.ff, p.down, 0);
}

/* ---- products of what is no matrix in panels */

/* y (n, columns) = x (n, K) times w (K, columns). */
static NEVER_INLINE void times(int64_t n, const float *x, int64_t x_row, const float *w, int64_t w_row, int64_t k,
                               float *y, int64_t y_row, int64_t columns) {
    product(n, x, x_row, 1, w, w_row, k, y, y_row, columns, 0);
}

/* y (n, columns), or that much added to y, = the transpose of x (K, n) times w (K, columns). */
static NEVER_INLINE void across(int64_t n, const float *x, int64_t x_row, const float *w, int64_t w_row, int64_t k,
                                float *y, int64_t y_row, int64_t columns, int add) {
    product(n, x, 1, x_row, w, w_row, k, y, y_row, columns, add);
}

/* ---- what lies between products */

/* y = w x / its root mean square (C); one over the latter. */
static float normalise(const float *x, const float *w, float *y, int64_t c, float eps) {
    vector squares = {};
    for (int64_t i = 0; i < c; i += WIDTH) squares += load(x + i) * load(x + i);
    float scale = 1.0f / sqrtf(sum(squares) / (float)c + eps);
    for (int64_t i = 0; i < c; i += WIDTH) store(y + i, load(x + i) * scale * load(w + i));
    return scale;
}

/* dx = d_before + the gradient of x by that of its norm, d; also the norm itself, y. */
static void normalise_back(const float *x, const float *w, float scale, const float *d, const float *d_before, float *y,
                           float *dx, int64_t c) {
    vector along = {};
    for (int64_t i = 0; i < c; i += WIDTH) along += load(d + i) * load(w + i) * load(x + i);
    float share = sum(along) * scale * scale / (float)c;
    for (int64_t i = 0; i < c; i += WIDTH) {
        vector v = load(x + i), weight = load(w + i);
        store(y + i, v * scale * weight);
        store(dx + i, load(d_before + i) + (load(d + i) * weight - v * share) * scale);
    }
}

/* Turns the pairs (i, i + D / 2) of n heads (n, D) by a position's angles, or back where `way` is -1, and scales them. */
static void turn(float *x, const float *restrict cos, const float *restrict sin, int64_t n, int64_t d, float way,
                 float scale) {
    for (int64_t h = 0; h < n; h++, x += d) {
        float *restrict left = x, *restrict right = x + d / 2;
        for (int64_t i = 0; i < d / 2; i++) {
            float a = left[i], b = right[i];
            left[i] = (a * cos[i] - way * b * sin[i]) * scale;
            right[i] = (b * cos[i] + way * a * sin[i]) * scale;
        }
    }
}

/* Queries and keys of a token (2, H, D). */
static void turn_token(const Step *s, int64_t token, float *qk, float way) {
    int64_t D = s->d_head, T = s->length, at = token / T * s->turn_row + token % T * D;
    turn(qk, s->cos + at, s->sin + at, s->n_heads, D, way, 1.0f / sqrtf((float)D));
    turn(qk + s->n_heads * D, s->cos + at, s->sin + at, s->n_heads, D, way, 1.0f);
}

/* silu(gate) up, of gate and up (F) each */
static void activate(const float *gate, float *activated, int64_t f) {
    for (int64_t i = 0; i < f; i += WIDTH) {
        vector g = load(gate + i);
        store(activated + i, g / (1.0f + exponential(-g)) * load(gate + f + i));
    }
}

/* The same, and the gradients of both by `activated`'s, which stands where it is to be. */
static void activate_back(const float *gate, float *activated, float *d_gate, int64_t f) {
    for (int64_t i = 0; i < f; i += WIDTH) {
        vector g = load(gate + i), up = load(gate + f + i), d = load(activated + i);
        vector sigmoid = 1.0f / (1.0f + exponential(-g)), silu = g * sigmoid;
        store(d_gate + i, d * up * (sigmoid + silu * (1.0f - sigmoid)));
        store(d_gate + f + i, d * silu);
        store(activated + i, silu * up);
    }
}

/* ---- attention of a head of a row */

/* Rows (n, D), `row` apart, as a matrix (D, n), and 0 up to a multiple of WHOLE. */
static Matrix columns(const float *x, int64_t row, int64_t n, int64_t d, float *panels) {
    for (int64_t first = 0; first < up_to(n, WHOLE); first += 8) { /* a few at a time, as rows are far apart */
        float *to = panels + first / PANEL * PANEL * d + first % PANEL;
        if (first + 8 <= n)
            for (int64_t j = 0; j < d; j++)
                for (int64_t i = 0; i < 8; i++) to[j * PANEL + i] = x[(first + i) * row + j];
        else
            for (int64_t j = 0; j < d; j++)
                for (int64_t i = 0; i < 8; i++) to[j * PANEL + i] = first + i < n ? x[(first + i) * row + j] : 0.0f;
    }
    return (Matrix){panels, d, n};
}

/* The first n of a vector's numbers, and 0 behind them. */
INLINE vector up_to_there(int64_t n, vector v) {
    whole place;
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++) place[i] = i;
    return choose(place < (int32_t)n, v, (vector){});
}

/* How many tokens the queries up to one before `end` see. */
static int64_t seen_by(const Step *s, int64_t end) { return s->causal ? end : s->length; }

/* y (queries, n) = q (queries, D) times the first n columns of a matrix (D, T), and some behind them. */
static void against(int64_t queries, const float *q, int64_t q_row, Matrix m, int64_t n, float *y, int64_t y_row) {
    m.outputs = up_to(n, 16);
    multiply(queries, q, q_row, m, y, y_row, 0);
}

static void attend(const Step *s, int64_t row, int64_t head, float *space) {
    int64_t T = s->length, D = s->d_head, C = s->n_heads * D, wide = up_to(T, WHOLE);
    const float *q = s->qkv + row * T * 3 * C + head * D;
    float *seen = s->seen + row * T * C + head * D, *power = s->power + (row * s->n_heads + head) * T;
    float *values = space + wide * D, *p = values + wide * D;
    Matrix keys = columns(q + C, 3 * C, T, D, space);
    copy(q + 2 * C, 3 * C, T, D, values, D);
    for (int64_t first = 0; first < T; first += QUERIES) {
        int64_t n = least(QUERIES, T - first), most = seen_by(s, first + n);
        float total[QUERIES];
        against(n, q + first * 3 * C, 3 * C, keys, most, p, wide);
        for (int64_t i = 0; i < n; i++) {
            float *scores = p + i * wide;
            int64_t sees = seen_by(s, first + i + 1);
            float best = largest(scores, sees);
            vector of_all = {};
            for (int64_t j = 0; j < most; j += WIDTH) {
                vector e = power_of(load(scores + j) - best);
                if (j + WIDTH > sees) e = up_to_there(sees - j, e);
                store(scores + j, e);
                of_all += e;
            }
            total[i] = sum(of_all);
            power[first + i] = best + logf(total[i]);
        }
        times(n, p, wide, values, D, most, seen + first * C, C, D);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < D; j += WIDTH) {
                float *to = seen + (first + i) * C + j;
                store(to, load(to) / total[i]);
            }
    }
}

/* Gradients of queries, keys and values by that of what is seen (Dao et al. 2022, arXiv 2205.14135, section B.2). */
static void attend_back(const Step *s, int64_t row, int64_t head, float *space) {
    int64_t T = s->length, D = s->d_head, C = s->n_heads * D, wide = up_to(T, WHOLE);
    const float *q = s->qkv + row * T * 3 * C + head * D, *power = s->power + (row * s->n_heads + head) * T;
    const float *seen = s->seen + row * T * C + head * D, *d_seen = s->d_seen + row * T * C + head * D;
    float *dq = s->d_qkv + row * T * 3 * C + head * D;
    float *kept = space + 2 * wide * D, *dk = kept + wide * D, *dv = dk + wide * D, *p = dv + wide * D;
    float *dp = p + QUERIES * wide;
    Matrix keys = columns(q + C, 3 * C, T, D, space), values = columns(q + 2 * C, 3 * C, T, D, space + wide * D);
    copy(q + C, 3 * C, T, D, kept, D);
    memset(dk, 0, 2 * wide * D * sizeof(float));
    for (int64_t first = 0; first < T; first += QUERIES) {
        int64_t n = least(QUERIES, T - first), most = seen_by(s, first + n);
        const float *these = q + first * 3 * C, *d = d_seen + first * C;
        against(n, these, 3 * C, keys, most, p, wide);
        against(n, d, C, values, most, dp, wide);
        for (int64_t i = 0; i < n; i++) {
            int64_t sees = seen_by(s, first + i + 1);
            vector along = {};
            for (int64_t j = 0; j < D; j += WIDTH) along += load(d + i * C + j) * load(seen + (first + i) * C + j);
            float expected = sum(along), least_power = power[first + i];
            for (int64_t j = 0; j < most; j += WIDTH) {
                vector e = power_of(load(p + i * wide + j) - least_power);
                if (j + WIDTH > sees) e = up_to_there(sees - j, e);
                store(p + i * wide + j, e);
                store(dp + i * wide + j, e * (load(dp + i * wide + j) - expected));
            }
        }
        times(n, dp, wide, kept, D, most, dq + first * 3 * C, 3 * C, D);
        across(most, dp, wide, these, 3 * C, n, dk, D, D, 1);
        across(most, p, wide, d, C, n, dv, D, D, 1);
    }
    copy(dk, D, T, D, dq + C, 3 * C);
    copy(dv, D, T, D, dq + 2 * C, 3 * C);
}

/* ---- what Python calls */

/* Rows that go through the block together. */
static int64_t few_rows(const Step *s) { return s->length < AT_HAND ? AT_HAND / s->length : 1; }

/* The space, in numbers, that any of these takes. */
int64_t space_for(const Step *s) {
    int64_t D = s->d_head, C = s->n_heads * D, F = s->d_ff, wide = up_to(s->length, WHOLE);
    int64_t attention = 5 * wide * D + 2 * QUERIES * wide, slices = SLICE * (C + F);
    int64_t widest = 3 * C > F ? 3 * C : F, products = C * widest + SLICE * (C + widest + ROWS + PANEL);
    int64_t most = attention > slices ? attention : slices;
    return most > products ? most : products;
}

static void forward_some(const Step *s, int64_t from, int64_t to, float *space) {
    int64_t H = s->n_heads, C = H * s->d_head, F = s->d_ff, end = to * s->length;
    float *normed = space, *activated = normed + SLICE * C;
    for (int64_t first = from * s->length, n; first < end; first += n) {
        n = least(SLICE, end - first);
        for (int64_t i = 0; i < n; i++)
            s->scale_1[first + i] = normalise(s->x + (first + i) * C, s->of.norm_1, normed + i * C, C, s->eps);
        multiply(n, normed, C, s->packed.qkv, s->qkv + first * 3 * C, 3 * C, 0);
        for (int64_t i = 0; i < n; i++) turn_token(s, first + i, s->qkv + (first + i) * 3 * C, 1.0f);
    }
    for (int64_t row = from; row < to; row++)
        for (int64_t head = 0; head < H; head++) attend(s, row, head, space);
    for (int64_t first = from * s->length, n; first < end; first += n) {
        n = least(SLICE, end - first);
        float *between = s->between + first * C, *gate_up = s->gate_up + first * 2 * F, *y = s->y + first * C;
        memcpy(between, s->x + first * C, n * C * sizeof(float));
        multiply(n, s->seen + first * C, C, s->packed.out, between, C, 1);
        for (int64_t i = 0; i < n; i++)
            s->scale_2[first + i] = normalise(between + i * C, s->of.norm_2, normed + i * C, C, s->eps);
        multiply(n, normed, C, s->packed.gate_up, gate_up, 2 * F, 0);
        for (int64_t i = 0; i < n; i++) activate(gate_up + i * 2 * F, activated + i * F, F);
        memcpy(y, between, n * C * sizeof(float));
        multiply(n, activated, F, s->packed.down, y, C, 1);
    }
}

static void backward_some(const Step *s, int64_t from, int64_t to, float *space) {
    int64_t H = s->n_heads, C = H * s->d_head, F = s->d_ff, end = to * s->length;
    for (int64_t first = from * s->length, n; first < end; first += n) {
        n = least(SLICE, end - first);
        float *activated = s->activated + first * F, *d_gate_up = s->d_gate_up + first * 2 * F;
        float *d_normed = s->d_normed_2 + first * C, *d_between = s->d_between + first * C;
        multiply(n, s->dy + first * C, C, s->packed.down, activated, F, 0);
        for (int64_t i = 0; i < n; i++)
            activate_back(s->gate_up + (first + i) * 2 * F, activated + i * F, d_gate_up + i * 2 * F, F);
        multiply(n, d_gate_up, 2 * F, s->packed.gate_up, d_normed, C, 0);
        for (int64_t i = 0; i < n; i++)
            normalise_back(s->between + (first + i) * C, s->of.norm_2, s->scale_2[first + i], d_normed + i * C,
                           s->dy + (first + i) * C, s->normed_2 + (first + i) * C, d_between + i * C, C);
        multiply(n, d_between, C, s->packed.out, s->d_seen + first * C, C, 0);
    }
    for (int64_t row = from; row < to; row++)
        for (int64_t head = 0; head < H; head++) attend_back(s, row, head, space);
    for (int64_t first = from * s->length, n; first < end; first += n) {
        n = least(SLICE, end - first);
        float *d_qkv = s->d_qkv + first * 3 * C, *d_normed = s->d_normed_1 + first * C;
        for (int64_t i = 0; i < n; i++) turn_token(s, first + i, d_qkv + i * 3 * C, -1.0f);
        multiply(n, d_qkv, 3 * C, s->packed.qkv, d_normed, C, 0);
        for (int64_t i = 0; i < n; i++)
            normalise_back(s->x + (first + i) * C, s->of.norm_1, s->scale_1[first + i], d_normed + i * C,
                           s->d_between + (first + i) * C, s->normed_1 + (first + i) * C, s->dx + (first + i) * C, C);
    }
}

/* y, and what is kept for the way back, of the rows from one to another: a few at a time, as long as they are at hand. */
void forward(const Step *s, int64_t from, int64_t to, float *space) {
    for (int64_t few = few_rows(s); from < to; from += few) forward_some(s, from, least(from + few, to), space);
}

/* dx, and what the weights' gradients are made of, of the rows from one to another. */
void backward(const Step *s, int64_t from, int64_t to, float *space) {
    for (int64_t few = few_rows(s); from < to; from += few) backward_some(s, from, least(from + few, to), space);
}

/* x (n, columns) in groups of so many of its columns, (columns / group, n, group). */
INLINE void grouped(const float *x, int64_t x_row, int64_t n, int64_t columns, int64_t group, float *y) {
    for (int64_t t = 0; t < n; t++, x += x_row, y += group) {
        int64_t j = 0;
        for (; j + group <= columns; j += group) copy(x + j, 0, 1, group, y + j * n, 0);
        for (int64_t i = j; i < columns; i++) y[j * n + i - j] = x[i];
    }
}

/* y (rows, columns) = the sum over n tokens of a (n, rows) times b (n, columns). */
static void outer(int64_t n, const float *a, int64_t a_row, int64_t rows, const float *b, int64_t b_row, int64_t columns,
                  float *y, int64_t y_row, float *space) {
    float *by_rows = space, *by_columns = space + SLICE * up_to(rows, ROWS);
    for (int64_t first = 0; first < n; first += SLICE, a += SLICE * a_row, b += SLICE * b_row) {
        int64_t tokens = least(SLICE, n - first);
        grouped(a, a_row, tokens, rows, ROWS, by_rows);
        grouped(b, b_row, tokens, columns, PANEL, by_columns);
        for (int64_t j = 0; j < columns; j += PANEL)
            for (int64_t i = 0; i < rows; i += ROWS)
                across(least(ROWS, rows - i), by_rows + i * tokens, ROWS, by_columns + j * tokens, PANEL, tokens,
                       y + i * y_row + j, y_row, least(PANEL, columns - j), first > 0);
    }
}

/* dw (outputs, inputs) = the sum over n tokens of dy (n, outputs) times x (n, inputs): its rows of one part of some. */
static void outer_part(int64_t n, const float *dy, int64_t dy_row, int64_t outputs, const float *x, int64_t inputs,
                       float *dw, int64_t part, int64_t parts, float *space) {
    int64_t from = outputs * part / parts, to = outputs * (part + 1) / parts;
    if (dw == NULL) return;
    float *turned = space, *rest = space + inputs * outputs; /* the other way round, fewer numbers are copied singly */
    outer(n, x, inputs, inputs, dy + from, dy_row, to - from, turned, to - from, rest);
    for (int64_t first = from; first < to; first += 16) /* whole lines of memory */
        for (int64_t k = 0; k < inputs; k++)
            for (int64_t row = first; row < least(first + 16, to); row++)
                dw[row * inputs + k] = turned[k * (to - from) + row - from];
}

/* dw (C) = the sum over n tokens of d (n, C) times x (n, C) scaled: its channels of one part of some. */
static void outer_norm(int64_t n, const float *d, const float *x, const float *scale, int64_t c, float *dw, int64_t part,
                       int64_t parts) {
    if (dw == NULL) return;
    for (int64_t i = c / 16 * part / parts * 16; i < c / 16 * (part + 1) / parts * 16; i += WIDTH) {
        vector total = {};
        for (int64_t t = 0; t < n; t++) total += load(d + t * c + i) * load(x + t * c + i) * scale[t];
        store(dw + i, total);
    }
}

/* A part of the gradients of all weights. */
void gradients(const Step *s, int64_t part, int64_t parts, float *space) {
    int64_t C = s->n_heads * s->d_head, F = s->d_ff, N = s->rows * s->length, ff = s->of.ff;
    int64_t from = ff * part / parts;
    outer_norm(N, s->d_normed_1, s->x, s->scale_1, C, s->dw_norm_1, part, parts);
    outer_part(N, s->d_qkv, 3 * C, 3 * C, s->normed_1, C, s->dw_qkv, part, parts, space);
    outer_part(N, s->d_between, C, C, s->seen, C, s->dw_out, part, parts, space);
    outer_norm(N, s->d_normed_2, s->between, s->scale_2, C, s->dw_norm_2, part, parts);
    outer_part(N, s->d_gate_up, 2 * F, ff, s->normed_2, C, s->dw_gate, part, parts, space);
    outer_part(N, s->d_gate_up + F, 2 * F, ff, s->normed_2, C, s->dw_up, part, parts, space);
    if (s->dw_down != NULL)
        outer(N, s->dy, C, C, s->activated + from, F, ff * (part + 1) / parts - from, s->dw_down + from, ff, space);
}
