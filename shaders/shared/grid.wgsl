// Launches of more than 65 535 workgroups are folded into two dimensions: see `gpu/src/kernels/grid.rs`.
fn linear_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
