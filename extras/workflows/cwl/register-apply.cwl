cwlVersion: v1.2
class: CommandLineTool
label: Resample another image by a saved transform
doc: Runs `register apply` for other channels, labels and other resolutions of an image that `register align` aligned.
hints:
  DockerRequirement: {dockerPull: "register:0.2.0"} # built by the Dockerfile in containers/
  SoftwareRequirement:
    packages: {register-cli: {version: ["0.2.0"]}}
baseCommand: [register, apply]
inputs:
  transform: {type: File, inputBinding: {position: 1}}
  image: {type: File, inputBinding: {position: 2}}
  name: {type: string, label: name of the result; its ending decides the format, inputBinding: {prefix: --output, position: 3}}
  labels: {type: boolean, default: false, label: the image is a label image, inputBinding: {prefix: --labels, position: 4}}
  inverse: {type: boolean, default: false, label: moving grid from fixed image, inputBinding: {prefix: --inverse, position: 4}}
  extra: {type: "string[]?", label: further options of `register apply`, inputBinding: {position: 5}}
outputs:
  resampled: {type: File, outputBinding: {glob: $(inputs.name)}}
permanentFailCodes: [1, 2]
