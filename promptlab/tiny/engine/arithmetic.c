/* The engine's arithmetic: tokens are read, scored and drawn without a call of any library in between.

   Every sum is taken in an order that depends on positions alone, so that a token's numbers are the same to the bit
   whatever is beside it, and wherever what it begins with stands. All numbers are float32, but those that matrices keep.

   B tokens or rows, C channels, H heads of D channels, F channels of the MLP, V tokens of the vocabulary. C, D and F
   are multiples of 16. */

#include "../vectors.h"
#include "narrow.h"

enum { LANES = 16, BLOCK = LANES / WIDTH }; /* tokens of a block, and vectors of those */
enum { SLICE = 96, FEW = 4 };              /* tokens that go through a layer together, and that look together */
enum { OF_ONE = 8 / SUMS };                /* vectors of a value that one token weighs together */
#if defined __AVX512F__
#define SEVERAL 8 /* blocks that one token looks at together */
#elif defined __AVX__ || defined __aarch64__
#define SEVERAL 6
#else
#define SEVERAL 3
#endif

typedef struct {
    Weight qkv, out, gate_up, down;
} Layer;

typedef struct {
    int64_t n_layers, n_heads, d_head, d_ff;
    float eps;
    const float *embedding; /* (V, C) */
    const float *turns;     /* (context, D / 2, 2): cosine and sine */
    const Layer *layers;
    Weight unembedding;
} Model;

/* Keys and values of blocks of 16 tokens, (layers, n, H, 2, 16 D): keys as (D, 16), values as (16, D). */
typedef struct {
    float *blocks;
    int64_t n;
} Memory;

/* A token, and the blocks of all that it sees, its own among them: that of position p is table[p / 16]. */
typedef struct {
    int64_t id, position;
    const int64_t *table;
} Token;

/* ---- what lies between them */

/* y = x over its root mean square (C); the norm's weight is part of the next matrix. */
static void normalise(const float *x, float *y, int64_t c, float eps) {
    vector squares = {};
    for (int64_t i = 0; i < c; i += WIDTH) squares += load(x + i) * load(x + i);
    float scale = 1.0f / sqrtf(sum(squares) / (float)c + eps);
    for (int64_t i = 0; i < c; i += WIDTH) store(y + i, load(x + i) * scale);
}

/* Turns the pairs of n heads (n, D) by the angles of a position. */
static void turn(float *restrict x, const float *restrict angles, int64_t n, int64_t d) {
    for (int64_t h = 0; h < n; h++, x += d)
        for (int64_t i = 0; i < d; i += 2) {
            float a = x[i], b = x[i + 1];
            x[i] = a * angles[i] - b * angles[i + 1];
            x[i + 1] = a * angles[i + 1] + b * angles[i];
        }
}

/* gate = silu(gate) up */
static void activate(float *gate, const float *up, int64_t f) {
    for (int64_t i = 0; i < f; i += WIDTH) {
        vector g = load(gate + i);
        store(gate + i, g / (1.0f + exponential(-g)) * load(up + i));
    }
}

/* ---- attention: of a few tokens at once, which may see the same blocks to begin with */

/* How many whole blocks all of a few tokens see, and in the same place. */
static int64_t common(int few, const Token *tokens) {
    int64_t n = (tokens[0].position + 1) / LANES;
    for (int t = 1; t < few; t++) {
        int64_t most = (tokens[t].position + 1) / LANES, same = 0;
        if (most > n) most = n;
        if (tokens[t].table == tokens[0].table) same = most;
        while (same < most && tokens[t].table[same] == tokens[0].table[same]) same++;
        n = same;
    }
    return n;
}

/* Scores of a block of keys (D, 16) with each of a few queries. */
INLINE void score(int few, const float *q, int64_t q_row, const float *keys, int64_t d, float *scores, int64_t row) {
    vector s[FEW][BLOCK];
#pragma GCC unroll 8
    for (int t = 0; t < few; t++)
#pragma GCC unroll 4
        for (int j = 0; j < BLOCK; j++) s[t][j] = (vector){};
#pragma GCC unroll 4
    for (int64_t i = 0; i < d; i++)
#pragma GCC unroll 4
        for (int j = 0; j < BLOCK; j++) {
            vector k = held(load(keys + i * LANES + j * WIDTH));
#pragma GCC unroll 8
            for (int t = 0; t < few; t++) s[t][j] = plus(s[t][j], q[t * q_row + i], k);
        }
#pragma GCC unroll 8
    for (int t = 0; t < few; t++)
#pragma GCC unroll 4
        for (int j = 0; j < BLOCK; j++) store(scores + t * row + j * WIDTH, s[t][j]);
}

/* The same of several blocks with one query: as many sums at a time as keep the processor busy. */
INLINE void score_several(int several, const float *q, const float *const *keys, int64_t d, float *scores) {
    vector s[SEVERAL][BLOCK];
#pragma GCC unroll 8
    for (int b = 0; b < several; b++)
#pragma GCC unroll 4
        for (int j = 0; j < BLOCK; j++) s[b][j] = (vector){};
#pragma GCC unroll 4
    for (int64_t i = 0; i < d; i++)
#pragma GCC unroll 8
        for (int b = 0; b < several; b++)
#pragma GCC unroll 4
            for (int j = 0; j < BLOCK; j++) s[b][j] = plus(s[b][j], q[i], load(keys[b] + i * LANES + j * WIDTH));
#pragma GCC unroll 8
    for (int b = 0; b < several; b++)
#pragma GCC unroll 4
        for (int j = 0; j < BLOCK; j++) store(scores + b * LANES + j * WIDTH, s[b][j]);
}

/* The same of all blocks from one to another. */
static NEVER_INLINE void score_rest(const float *q, const float *keys, const int64_t *table, int64_t from, int64_t to,
                                    int64_t size, int64_t d, float *scores) {
    for (int64_t groups = (to - from + SEVERAL - 1) / SEVERAL, n; groups; groups--, from += n) {
        const float *several[SEVERAL];
        n = (to - from + groups - 1) / groups;
        for (int i = 0; i < n; i++) several[i] = keys + table[from + i] * size;
#define SCORE(n) case n: score_several(n, q, several, d, scores + from * LANES); break;
        switch (n) { /* each compiled by itself */
            SCORE(1) SCORE(2) SCORE(3)
#if SEVERAL > 3
            SCORE(4) SCORE(5) SCORE(6)
#endif
#if SEVERAL > 6
            SCORE(7) SCORE(8)
#endif
        }
#undef SCORE
    }
}

INLINE whole inside(int64_t n) { /* the first n lanes */
    whole lane;
    for (int i = 0; i < WIDTH; i++) lane[i] = i;
    return lane < (int)n;
}

/* Of n scores, behind which are those of other texts, which may be of any size. */
INLINE float largest_score(const float *scores, int64_t n) {
    vector most = all(-INFINITY);
    for (int64_t i = 0; i < n; i += WIDTH)
        most = larger(choose(inside(n - i), load(scores + i), all(-INFINITY)), most);
    return largest_of(most);
}

/* Of a block's scores the first n become p, e to the power of them less the best, and 0 in the rest of the last vector;
   adds them to a total. */
INLINE void powers(float *scores, int64_t n, float best, vector *total) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < LANES; i += WIDTH)
        if (i < n) {
            whole of_them = inside(n - i);
            vector p = choose(of_them, power_of(choose(of_them, load(scores + i) - best, (vector){})), (vector){});
            store(scores + i, p);
            *total += p;
        }
}

/* Adds `vectors` vectors of n values, 16 at most, weighed by p of each of a few tokens, to some sums: a value to the one
   of its place. */
INLINE void weigh(int few, int vectors, const float *p, int64_t p_row, const float *values, int64_t n, int64_t d,
                  vector (*s)[SUMS]) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            vector v = load(values + i * d + j * WIDTH);
            if (few > 1) v = held(v);
#pragma GCC unroll 8
            for (int t = 0; t < few; t++)
                s[t * vectors + j][i % SUMS] = plus(s[t * vectors + j][i % SUMS], p[t * p_row + i], v);
        }
}

/* The same, by one token, of any number of values from a block on. Where there is a `total` the first block's scores are
   p and the others' are still scores: they become it a block ahead, while values are on their way. */
INLINE void weigh_rest(int vectors, float *p, const float *values, const int64_t *table, int64_t n, int64_t size, int64_t d,
                       vector (*s)[SUMS], float best, vector *total) {
    for (; n >= LANES; n -= LANES, p += LANES, table++) {
        if (total) powers(p + LANES, n - LANES, best, total);
        weigh(1, vectors, p, 0, values + *table * size, LANES, d, s);
    }
    if (!n) return;
    const float *v = values + *table * size;
    for (; n >= 4; n -= 4, p += 4, v += 4 * d) weigh(1, vectors, p, 0, v, 4, d, s);
    if (n == 3) weigh(1, vectors, p, 0, v, 3, d, s);
    if (n == 2) weigh(1, vectors, p, 0, v, 2, d, s);
    if (n == 1) weigh(1, vectors, p, 0, v, 1, d, s);
}

/* Stores the mean of values by p, which sums to `total`. */
INLINE void store_mean(float *y, const vector *s, float total) {
    vector all_of_it = s[0] + s[1];
    if (SUMS == 4) all_of_it += s[2] + s[SUMS - 1];
    store(y, all_of_it / total);
}

/* softmax(q kᵀ) v of a head of a token. `keys` and `values` are the head's in block 0, `size` is how far apart blocks are,
   `p` has room for a number a token that is seen. */
INLINE void attend_one(const Token *token, const float *q, const float *keys, const float *values, int64_t size, int64_t d,
                       float *p, float *y) {
    int64_t n = token->position + 1, i = 0;
    score_rest(q, keys, token->table, 0, (n + LANES - 1) / LANES, size, d, p);
    float best = largest_score(p, n), sum_of_p = 0.0f;
    vector total = {};
    powers(p, n, best, &total);
#define WEIGH(vectors)                                                                              \
    {                                                                                               \
        vector s[vectors][SUMS] = {};                                                               \
        weigh_rest(vectors, p, values + i, token->table, n, size, d, s, best, i ? 0 : &total);      \
        if (!i) sum_of_p = sum(total);                                                              \
        for (int j = 0; j < vectors; j++) store_mean(y + i + j * WIDTH, s[j], sum_of_p);            \
    }
    for (; i + OF_ONE * WIDTH <= d; i += OF_ONE * WIDTH) WEIGH(OF_ONE)
    for (; i < d; i += WIDTH) WEIGH(1)
#undef WEIGH
}

/* The same of a few tokens, which all see `shared` blocks to begin with. Their queries and results are `q_row` and `y_row`
   apart, their p `row`. */
INLINE void attend_few(const Token *tokens, int64_t shared, const float *q, int64_t q_row, const float *keys,
                       const float *values, int64_t size, int64_t d, float *p, int64_t row, float *y, int64_t y_row) {
    for (int64_t b = 0; b < shared; b++)
        score(FEW, q, q_row, keys + tokens[0].table[b] * size, d, p + b * LANES, row);
    float sums[FEW];
    for (int t = 0; t < FEW; t++) {
        int64_t n = tokens[t].position + 1, blocks = (n + LANES - 1) / LANES;
        score_rest(q + t * q_row, keys, tokens[t].table, shared, blocks, size, d, p + t * row);
        float best = largest_score(p + t * row, n);
        vector total = {};
        for (int64_t b = 0; b < blocks; b++) powers(p + t * row + b * LANES, n - b * LANES, best, &total);
        sums[t] = sum(total);
    }
    for (int64_t i = 0; i < d; i += WIDTH) {
        vector s[FEW][SUMS] = {};
        for (int64_t b = 0; b < shared; b++)
            weigh(FEW, 1, p + b * LANES, row, values + i + tokens[0].table[b] * size, LANES, d, s);
        for (int t = 0; t < FEW; t++) {
            weigh_rest(1, p + t * row + shared * LANES, values + i, tokens[t].table + shared,
                       tokens[t].position + 1 - shared * LANES, size, d, s + t, 0.0f, 0);
            store_mean(y + t * y_row + i, s[t], sums[t]);
        }
    }
}

/* All heads of n tokens, a few at a time; values of heads of usual size are weighed by code of their own. */
static void attend_all(int64_t n, const Token *tokens, const float *q, int64_t q_row, const float *kept, int64_t heads,
                       int64_t d, float *p, int64_t row, float *y, int64_t y_row) {
    int64_t size = 2 * heads * d * LANES;
    for (int few; n; n -= few, tokens += few, q += few * q_row, y += few * y_row) {
        int64_t shared = n < FEW ? 0 : common(FEW, tokens);
        few = shared ? FEW : 1;
        for (int64_t h = 0; h < heads; h++) {
            const float *of = q + h * d, *keys = kept + 2 * h * d * LANES, *values = keys + d * LANES;
            float *to = y + h * d;
            if (shared && d == 32) attend_few(tokens, shared, of, q_row, keys, values, size, 32, p, row, to, y_row);
            else if (shared && d == 64) attend_few(tokens, shared, of, q_row, keys, values, size, 64, p, row, to, y_row);
            else if (shared) attend_few(tokens, shared, of, q_row, keys, values, size, d, p, row, to, y_row);
            else if (d == 32) attend_one(tokens, of, keys, values, size, 32, p, to);
            else if (d == 64) attend_one(tokens, of, keys, values, size, 64, p, to);
            else attend_one(tokens, of, keys, values, size, d, p, to);
        }
    }
}

/* ---- the next token */

/* Leaves p of the fewest likeliest that hold so much, 0 of others (Holtzman et al. 2019, arXiv 1904.09751); what it is. */
static double nucleus(float *p, int64_t n, double wanted) {
    double held = 0.0;
    while (held < wanted) {
        float most = largest(p, n);
        if (!(most > 0.0f)) break;
        p[where(p, n, most)] = -most;
        held += most;
    }
    for (int64_t i = 0; i < n; i++) p[i] = p[i] < 0.0f ? -p[i] : 0.0f;
    return held;
}

typedef struct {
    double temperature, top_p;
    const uint8_t *allowed; /* which tokens may be said (V); 0 where all may */
} How;

/* The logarithm of the sum of e to the power of n scores. */
static float denominator(const float *scores, int64_t n) {
    float best = largest(scores, n);
    vector total = {};
    for (int64_t i = 0; i < n; i += WIDTH) total += power_of(some(scores + i, n - i) - best);
    return best + logf(sum(total));
}

/* How tokens are drawn by some scores: the likeliest, what all hold together (0 where it is the likeliest that is said),
   and what those up to each hold (V). */
typedef struct {
    int64_t likeliest;
    double held, *below;
} Chances;

static int alike(How a, How b) { return a.temperature == b.temperature && a.top_p == b.top_p && a.allowed == b.allowed; }

/* By scores (V), of which those not allowed do not count; `space` has room for two of each, below for one. */
static Chances chances(const float *scores, int64_t n, How how, float *space, double *below) {
    float *p = space;
    if (how.allowed) { /* of a copy, as others draw from the same scores */
        float *masked = space + n + LANES;
        for (int64_t i = 0; i < n; i++) masked[i] = how.allowed[i] ? scores[i] : -INFINITY;
        scores = masked;
    }
    float best = largest(scores, n);
    Chances of = {where(scores, n, best), 0.0, below};
    if (!(how.temperature > 0.0)) return of;
    for (int64_t i = 0; i < n; i += WIDTH)
        store(p + i, exponential((some(scores + i, n - i) - best) / (float)how.temperature));
    for (int64_t i = 0; i < n; i++) {
        if (scores[i] == -INFINITY) p[i] = 0.0f;
        below[i] = of.held += p[i];
    }
    if (how.top_p < 1.0) {
        of.held = nucleus(p, n, how.top_p * of.held);
        double sum = 0.0;
        for (int64_t i = 0; i < n; i++) below[i] = sum += p[i];
    }
    return of;
}

/* The first token up to which more than a share u in [0, 1) is held. */
static int64_t draw(Chances of, int64_t n, double u) {
    if (!(of.held > 0.0)) return of.likeliest;
    double wanted = u * of.held;
    if (!(of.below[n - 1] > wanted)) wanted = nextafter(of.below[n - 1], 0.0); /* should rounding leave none: the last */
    int64_t first = 0, last = n - 1;
    while (first < last) {
        int64_t middle = (first + last) / 2;
        if (of.below[middle] > wanted) last = middle;
        else first = middle + 1;
    }
    return first;
}

/* ---- what Python calls */

INLINE int64_t room_for(int64_t seen) { return (seen + LANES - 1) / LANES * LANES; }

/* The space, in numbers, that n tokens at once take which see so many at most. */
int64_t space_for(const Model *m, int64_t n, int64_t seen) {
    int64_t V = m->unembedding.outputs, c = m->n_heads * m->d_head;
    int64_t looking = FEW * room_for(seen), drawing = 2 * V + 2 * (V + LANES);
    return (n < SLICE ? n : SLICE) * (5 * c + 2 * m->d_ff) + (looking > drawing ? looking : drawing);
}

static void forward_slice(const Model *m, Memory memory, int64_t n, const Token *tokens, int64_t seen, float *space,
                          float *hidden) {
    int64_t H = m->n_heads, D = m->d_head, F = m->d_ff, C = H * D, size = 2 * C * LANES;
    float *x = space, *y = x + n * C, *qkv = y + n * C, *mlp = qkv + n * 3 * C, *p = mlp + n * 2 * F;
    for (int64_t b = 0; b < n; b++) memcpy(x + b * C, m->embedding + tokens[b].id * C, C * sizeof(float));
    for (int64_t l = 0; l < m->n_layers; l++) {
        const Layer *layer = m->layers + l;
        float *kept = memory.blocks + l * memory.n * size;
        for (int64_t b = 0; b < n; b++) normalise(x + b * C, y + b * C, C, m->eps);
        multiply_by(n, y, C, layer->qkv, qkv, 3 * C, 0);
        for (int64_t b = 0; b < n; b++) {
            int64_t at = tokens[b].position, lane = at % LANES;
            float *q = qkv + b * 3 * C, *k = q + C, *v = k + C, *keys = kept + tokens[b].table[at / LANES] * size;
            turn(q, m->turns + at * D, 2 * H, D);
            for (int64_t h = 0; h < H; h++, k += D, v += D, keys += 2 * D * LANES) {
                for (int64_t i = 0; i < D; i++) keys[i * LANES + lane] = k[i];
                memcpy(keys + D * LANES + lane * D, v, D * sizeof(float));
            }
        }
        attend_all(n, tokens, qkv, 3 * C, kept, H, D, p, room_for(seen), y, C);
        multiply_by(n, y, C, layer->out, x, C, 1);
        for (int64_t b = 0; b < n; b++) normalise(x + b * C, y + b * C, C, m->eps);
        multiply_by(n, y, C, layer->gate_up, mlp, 2 * F, 0);
        for (int64_t b = 0; b < n; b++) activate(mlp + b * 2 * F, mlp + b * 2 * F + F, F);
        multiply_by(n, mlp, 2 * F, layer->down, x, C, 1);
    }
    for (int64_t b = 0; b < n; b++) normalise(x + b * C, hidden + b * C, C, m->eps);
}

/* Reads n tokens, those that others see before them or in one go: their normed hidden states (n, C). */
void forward(const Model *m, Memory memory, int64_t n, const Token *tokens, int64_t seen, float *space, float *hidden) {
    int64_t C = m->n_heads * m->d_head;
    for (; n > 0; n -= SLICE, tokens += SLICE, hidden += SLICE * C)
        forward_slice(m, memory, n < SLICE ? n : SLICE, tokens, seen, space, hidden);
}

/* Scores of the next tokens (n, V) by hidden states (n, C). */
void scores(const Model *m, int64_t n, const float *hidden, float *logits) {
    multiply_by(n, hidden, m->n_heads * m->d_head, m->unembedding, logits, m->unembedding.outputs, 0);
}

/* log p of tokens (n) by the hidden states (n, C) before them; `logits` has room for a slice of theirs. */
void said(const Model *m, int64_t n, const float *hidden, const int64_t *ids, float *logits, float *log_p) {
    int64_t V = m->unembedding.outputs;
    for (; n > 0; n -= SLICE, hidden += SLICE * m->n_heads * m->d_head) {
        int64_t part = n < SLICE ? n : SLICE;
        scores(m, part, hidden, logits);
        for (int64_t b = 0; b < part; b++, ids++, log_p++) *log_p = logits[b * V + *ids] - denominator(logits + b * V, V);
    }
}

/* The tokens drawn by n rows, and their log p: that of the model, whatever they are drawn by; NaN where its scores are
   no numbers. Rows that draw from the same scores, `of` those of some (V), follow each other. */
void draws(const Model *m, int64_t n, const int64_t *of, const How *how, const double *u, float *space,
           const float *logits, int64_t *tokens, float *log_p) {
    int64_t V = m->unembedding.outputs;
    double *below = (double *)space;
    Chances by = {0};
    float whole_of_it = 0.0f;
    for (int64_t b = 0; b < n; b++) {
        const float *scores = logits + of[b] * V;
        int same = b && of[b] == of[b - 1];
        if (!same) whole_of_it = denominator(scores, V);
        if (!same || !alike(how[b], how[b - 1])) by = chances(scores, V, how[b], space + 2 * V, below);
        tokens[b] = draw(by, V, u[b]);
        log_p[b] = scores[tokens[b]] - whole_of_it;
    }
}

/* Reads the last tokens of some stems and draws up to `most` more of each of n rows, by u (most, n), until a row comes to
   its `end` or to no numbers, or parts from the others `of` its stem: how many. They are said in `drawn` and `log_p`
   (most, n). */
int64_t go_on(const Model *m, Memory memory, int64_t stems, Token *tokens, int64_t n, const int64_t *of, const How *how,
              const double *u, int64_t most, int64_t end, int64_t seen, float *space, float *hidden, float *logits,
              int64_t *drawn, float *log_p) {
    for (int64_t s = 0; s < most; s++, u += n, drawn += n, log_p += n) {
        forward(m, memory, stems, tokens, seen, space, hidden);
        scores(m, stems, hidden, logits);
        draws(m, n, of, how, u, space, logits, drawn, log_p);
        int over = 0;
        for (int64_t b = 0; b < n; b++) {
            Token *token = tokens + of[b];
            if (!b || of[b] != of[b - 1]) {
                token->id = drawn[b];
                token->position++;
            }
            over |= drawn[b] != token->id || drawn[b] == end || log_p[b] != log_p[b];
        }
        if (over) return s + 1;
    }
    return most;
}
