import time
def test_a(start, uninterrupted):
  for i in range(3):
    t=time.time(); r = start("train", f"trainer.max_steps=5{i}"); s=r.wait(); print(s, time.time()-t)
  t=time.time(); r = start("train", f"trainer.max_steps=5{i}"); s=r.wait(); print(s, time.time()-t)
  t=time.time(); r = start("train", before="import sys;sys.exit(3)"); s=r.wait(); print(s, time.time()-t)
  t=time.time(); r = start("train", before="import os;os._exit(3)"); s=r.wait(); print(s, time.time()-t)
