// What the ways to diagonalise share: sums over a workgroup, the order of the pairs, and their rotations.
const THREADS: u32 = 256;
var<workgroup> lanes: array<f32, THREADS>;
var<workgroup> shared_value: f32;

// The sum of every thread's value, in every thread.
fn total(thread: u32, value: f32) -> f32 {
    lanes[thread] = value;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            lanes[thread] += lanes[thread + half];
        }
        workgroupBarrier();
    }
    if thread == 0u {
        shared_value = lanes[0];
    }
    return workgroupUniformLoad(&shared_value);
}

// The rotation that makes the off-diagonal entry of a symmetric 2×2 matrix zero.
fn rotation(pp: f32, qq: f32, pq: f32) -> vec2<f32> {
    if pq == 0.0 {
        return vec2<f32>(1.0, 0.0);
    }
    let tau = (qq - pp) / (2.0 * pq);
    // For |τ| beyond 1e18 its square overflows, and the tangent is 1/2τ.
    var tangent = 0.5 / tau;
    if abs(tau) < 1e18 {
        tangent = select(-1.0, 1.0, tau >= 0.0) / (abs(tau) + sqrt(1.0 + tau * tau));
    }
    let cosine = inverseSqrt(1.0 + tangent * tangent);
    let t = vec2<f32>(cosine, tangent * cosine);
    // inverseSqrt may be off by two units in the last place, always to one side; a thousand rotations would show it.
    return t * (1.5 - 0.5 * dot(t, t));
}

// Pair `number` of a round over `even` indices, the smaller first. Round robin: player 0 stays, the others move on by one.
fn round_robin(number: u32, round: u32, even: u32) -> vec2<u32> {
    let last = even - 1u;
    var p = (number + last - 1u + round) % last + 1u;
    if number == 0u {
        p = 0u;
    }
    let q = (last - number + last - 1u + round) % last + 1u;
    return vec2<u32>(min(p, q), max(p, q));
}
