"""What answers are worth beside next-token: losses of preference, feedback, reward, policy and distillation.

Pure functions on tensors, one file a subject with its paper; none of them knows a model or a batch.
"""
