"""In the path of every process of vLLM's environment: PyPI's torchvision is a CUDA build, whose operators do not load
beside a CPU build of torch. With two of them declared its Python part works, which is all that is used."""

import sys


class _BeforeTorchvision:
    library = None

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and self.library is None:
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            self.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, _BeforeTorchvision())
