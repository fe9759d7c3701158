# Written long ago in an editor that saved Latin-1, and did not say so. Python must refuse it, and the job that has to
# index it fails for that reason, after one more try.

CAFÉ = "café crème"
