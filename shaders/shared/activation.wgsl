// Kinds, as in `gpu/src/kernels/activation.rs`.
const GELU: u32 = 0;
const GELU_TANH: u32 = 1;
const SILU: u32 = 2;

// (Φ(x), φ(x)): Hastings; Abramowitz & Stegun 7.1.26. Absolute error 3e-7.
fn normal(x: f32) -> vec2<f32> {
    let z = abs(x) * 0.70710678;
    let t = 1.0 / (1.0 + 0.3275911 * z);
    var poly = 1.0614054;
    poly = poly * t - 1.453152;
    poly = poly * t + 1.4214137;
    poly = poly * t - 0.28449674;
    poly = poly * t + 0.2548296;
    let e = exp(-(z * z));
    let tail = 0.5 * poly * t * e;
    return vec2<f32>(select(1.0 - tail, tail, x < 0.0), e * 0.3989423);
}

// (tanh u, du/dx) of u = √(2/π)·(x + c·x³).
fn tanh_parts(x: f32) -> vec2<f32> {
    let u = clamp(0.79788456 * (x + 0.044715 * x * x * x), -20.0, 20.0);
    return vec2<f32>(1.0 - 2.0 / (1.0 + exp(2.0 * u)), 0.79788456 * (1.0 + 3.0 * 0.044715 * x * x));
}

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-max(x, -80.0)));
}
