"""One command per figure; peers are measured in the same run."""
