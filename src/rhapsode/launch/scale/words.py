"""The words of docs/scale.md around its tables."""

BEFORE = """\
<!-- Written by `python -m rhapsode.launch.scale > docs/scale.md`; a test compares. Change the script, not the page. -->

# Scale

What a training takes on 8 to 1,024 GPUs, so that it can be known before they are bought. Every number here is
**computed** from a model's published shape by `src/rhapsode/launch/scale/`; none of these runs has been made. The last
section says what the formulae were held against. How a job gets there: [launching](#launching).

## Assumptions

Rows of {context:,} tokens, one micro-batch a step, bfloat16 over float32, AdamW; a step of {step:.1f} million tokens at
most. NVIDIA H100 SXM: {memory:.0f} GB, of which {usable:.0f} are planned with; {flops:.0f} TFLOP/s of dense bfloat16,
of which a step reaches {share:.0%} while it computes; NVLink with {link:.0f} GB/s each way between the 8 GPUs of a
machine; a card of {card:.0f} GB/s for each GPU between machines; collectives reach {link_share:.0%} of these, and a
ring takes {hop:.0f} microseconds for each rank on its way. They stand in one place, `setting.py`: put yours there and
write the page again.

## What fits, and how fast it can be

The fastest of the layouts that `rhapsode train` has, with as few rows at once as reach that speed. `replicate N`: every
rank has the whole model. `shard N`: every rank has the N-th part of the rows of every weight (FSDP2). Both are
`train.parallel`. `tensor N`: before that, N GPUs of a machine divide every product of a block (`train.tensor`);
`recompute` is `train.recompute`. Memory in GB on each GPU; `sent` in GB, by each GPU in a step.
"""

BOUNDS = """\
`state`: weights, gradients, moments. `gathered`: weights and gradients of other ranks while they are needed.
`activations`: kept for the way back. `loss`: scores of a chunk, gradient of the projection. `sending` goes on while
blocks compute where the model is sharded, and after it where it is replicated; where products are divided, everything
waits for their parts. `lost` is the share of the step in which nothing is computed. `tokens/s`, and the time that
{tokens} tokens a parameter take, are of all GPUs together, and bounds: validation, checkpoints, the loader and failures
come on top. With several micro-batches a step, only gradients over replicas and of what is not divided are sent once.
"""

SMALLEST = """\
## The fewest GPUs

On which one row of {context:,} tokens fits, in whichever layout. Muon remembers one number of a parameter of a matrix
where AdamW remembers two, but needs room to make matrices orthogonal.
"""

DISK = """\
## Disk, and main memory

In GB. A checkpoint holds float32 weights and moments, ready to resume. The first machine makes the first weights, and
reads each checkpoint again to prove it, so it needs that much main memory beside what its processes take.
"""

HIDING = """\
## When sending hides behind computing

Sharded, every micro-batch gathers the weights twice in bfloat16 and sums the gradients once in float32: 8 bytes a
parameter, whatever the number of tokens; it computes 6 operations a parameter for each token. So sending hides as soon
as each GPU has this many tokens in a micro-batch, at nearly any size of model. More than that is for memory to decide
(`train.micro_batch_rows`); less leaves GPUs waiting. What grows to the right is the ring's way through all ranks.
"""

FURTHER = """\
## What further layouts would give

`rhapsode train` replicates or shards over all ranks, or over those that do not divide products. One more is usual at
this size and **not built**: shares within a group and replicas of the group (HSDP). This is what it would give, so that
it is known when it is worth building: where a thousand ranks share a small model. Nor are the residual stream, the
embedding and the projection divided where products are (sequence and vocabulary parallel): in the formulae, 4 D, 2 D,
E and V D would be divided by T too.
"""

AFTER = """\
## Formulae

P parameters, B of them in the blocks, E = P - B outside; L blocks of width D; H query and K key/value heads of size C;
feed-forward F; vocabulary V; t tokens of a micro-batch on a GPU; N ranks in shares, M replicas of them, T that divide
products; a rank's own parameters are O = B / T + E. Bytes on each GPU:

| what | sharded | whole |
| --- | --- | --- |
| float32 weight and gradient | 8 O / N | 8 O |
| moments | 8 O / N, Muon (8 O - 4 B / T) / N | 8 O, Muon 8 O - 4 B / T |
| copy that computes | 0 | 2 O |
| gradient of the micro-batch | 4 O / N | 2 O |
| gathered | 2 (E + 2 B / (L T)) | 0 |
| gradients on their way to their ranks | 12 B / (L T) | 0 |
| activations, a = 4 D + 2 + ((3 H + 3 K) C + H C + 3 F + 2 H) / T | 2 t (L a + 2 D) | the same |
| activations, recomputed | 2 t (L D + 2 D + a) | the same |
| loss | 2 x 1024 V + 6 V D | the same |
| while weights move, AdamW | 4 O / N | 4 O |
| while weights move, Muon | (4 B + 44 L D F) / (N T) | (4 B + 44 L D F) / T |

The peak is the largest of three moments: the loss; the blocks on the way back (gradients on their way; of the loss only
2 V D); the move (state alone). Where queries and keys are normalised, a has H + K more. Bytes sent by each GPU:

| what | bytes | when |
| --- | --- | --- |
| weights | (N - 1) / N x 2 (2 B / T + E) | each micro-batch |
| gradients into shares | (N - 1) / N x 4 O | each micro-batch |
| gradients over replicas | 2 (M - 1) / M x 4 O / N | each step |
| parts of products | (T - 1) / T x 4 (4 L + 1) t D, recomputed 4 (6 L + 1) t D | each micro-batch |
| gradients of what is not divided | 2 (T - 1) / T x 4 E / N | each step |
| Muon's directions | (N T - 1) / (N T) x 8 B / (N T) | each step |

Operations: 6 (B + V D) + 6 L H C t' a token, t' the context; recomputed, a third more but for the projection's. A ring
is as fast as NVLink within a machine, and across machines as the cards of all its GPUs in a machine together. Muon's
own products are about 4 D / (tokens of a step) of these, 1.6% for the 7B model at a million, dealt out over the ranks:
they and torch's cache of free memory are left out.

## Launching

    launch:
      nodes: 4
      per_node: 8
      accelerator: h100
      time: 24h
      queue: training

`rhapsode train recipe.yaml --launch slurm` writes `out/launch/NAME/slurm.sbatch` and says how to submit it; `--submit`
submits it. `kubernetes` writes a JobSet with Kueue's label, `skypilot` a task, `torchrun` a script, which begins at
once if this machine is the only one. What the target must know and the recipe does not say is asked for by name; what
it has no use for is said. However the machines are lost, the job goes on from its newest checkpoint: Slurm queues it
again, also when its time is up; a JobSet and a managed job of SkyPilot begin again by themselves. A machine that is
taken away is told before (SIGTERM; 120 seconds are asked for, of which torchrun gives the processes 30), and the run
saves. The plan stays what it was: `launch` is no part of it.
"""

CHECKS = """\
## What this was held against, and what not

- **Activations** are counted in a real decoder by a test, tensor by tensor, with the operators that a GPU uses and
  attention without a mask: the formula's number, to the byte.
- **State** is counted by a test in the real masters and optimizers of a small model.
- **torchtitan** publishes Llama 3.1 8B, sharded and compiled, with selective recomputation and 2 rows of 8,192 tokens
  (`benchmarks/` of its repository; H100 of 96 GB and 500 W, end of 2024): {few_gib} GiB on {few} GPUs and {many_gib}
  GiB on {many}. Only what is shared out differs between the two: {published:.1f} GiB there, {ours:.1f} GiB by the
  formula at the {bytes} bytes a parameter that it keeps. Ours would be {kept:.1f} GiB on {few} with everything kept and
  {again:.1f} GiB with all recomputed; theirs, with some, lies between.
- **Speed**: its {few_speed:,} and {many_speed:,} tokens a second on each GPU are {few_share:.0%} and {many_share:.0%}
  of the peak that is assumed here, with a lower power limit and some recomputation. From {few} to {many} GPUs it loses
  2%: sending hides, as it should with 16,384 tokens a GPU. Half of the peak is a goal and no measurement.
- **Not run**: any of this on a GPU; {large} was never loaded here. The jobs were checked against the schemas of JobSet
  and SkyPilot, and their scripts were run with stand-ins for the schedulers; no cluster has seen them yet. What did
  run, and runs in a test, is torchrun with two processes on processors.
"""
