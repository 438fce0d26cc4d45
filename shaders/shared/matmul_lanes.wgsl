// Products on devices whose subgroups have exactly 8 lanes and where a load costs much more than arithmetic: software
// adapters. A subgroup makes 8·TM rows and 8·TN columns of D: lane l loads row l of each eight rows of A and column l of
// each eight columns of B, and the rows go round by broadcast. Nothing passes through workgroup memory, so there is no
// barrier. Rows and columns beyond the end repeat the last one and are not stored.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let outer = group.z / params.inner;
    let inner = group.z % params.inner;
    let a_base = params.a_offset + outer * params.a_outer + inner * params.a_inner;
    let b_base = params.b_offset + outer * params.b_outer + inner * params.b_inner;
    let first_row = group.y * BM + subgroup / WN * (8u * TM);
    let first_col = group.x * BN + subgroup % WN * (8u * TN);
    if first_row >= params.m || first_col >= params.n {
        return;
    }
    //@ for I in 0..TM
    var from_a$I = a_base + min(first_row + $Iu * 8u + lane, params.m - 1u) * params.a_row;
    //@ end
    //@ for J in 0..TN
    var from_b$J = b_base + min(first_col + $Ju * 8u + lane, params.n - 1u) * params.b_col;
    //@ end
    //@ for I in 0..TM
    //@ for E in 0..8
    //@ for J in 0..TN
    var acc_$I$E_$J = 0.0;
    //@ end
    //@ end
    //@ end
    for (var k = 0u; k < params.k; k++) {
        //@ for J in 0..TN
        let y$J = load_b(from_b$J);
        from_b$J += params.b_row;
        //@ end
        //@ for I in 0..TM
        let x$I = load_a(from_a$I);
        from_a$I += params.a_col;
        //@ for E in 0..8
        {
            let x = subgroupBroadcast(x$I, $Eu);
            //@ for J in 0..TN
            acc_$I$E_$J += x * y$J;
            //@ end
        }
        //@ end
        //@ end
    }
    let by = factors(group.z);
    let d_base = params.d_offset + outer * params.d_outer + inner * params.d_inner;
    //@ for I in 0..TM
    //@ for E in 0..8
    {
        let row = first_row + $Iu * 8u + $Eu;
        if row < params.m {
            //@ for J in 0..TN
            finish(d_base + row * params.d_row, first_col + $Ju * 8u + lane, acc_$I$E_$J, by);
            //@ end
        }
    }
    //@ end
    //@ end
}
