cwlVersion: v1.2
class: CommandLineTool
label: Align two images of the same thing
doc: |
  Runs `register align`: the moving image on the grid of the fixed one, the transform with its verdict, a picture
  before and after, and a report. An alignment with the verdict `failed` is a permanent failure (exit code 3).
requirements:
  InitialWorkDirRequirement: # the images beside the results: paths in the results are the names of the files
    listing:
      - $(inputs.fixed)
      - $(inputs.moving)
  EnvVarRequirement:
    envDef:
      SOURCE_DATE_EPOCH: $(inputs.date)
hints:
  DockerRequirement: {dockerPull: "register:0.2.0"} # built by the Dockerfile in containers/
  SoftwareRequirement:
    packages: {register-cli: {version: ["0.2.0"]}}
baseCommand: [register, align]
arguments:
  - {position: 3, prefix: --output, valueFrom: results}
  - {position: 3, prefix: --threads, valueFrom: $(runtime.cores)}
inputs:
  fixed: {type: File, label: the image that stays, inputBinding: {position: 1, valueFrom: $(self.basename)}}
  moving: {type: File, label: the image that is aligned, inputBinding: {position: 2, valueFrom: $(self.basename)}}
  fixed_mask: {type: File?, label: valid region of the fixed image, inputBinding: {prefix: --fixed-mask, position: 4}}
  moving_mask: {type: File?, label: valid region of the moving image, inputBinding: {prefix: --moving-mask, position: 4}}
  preset:
    type: {type: enum, symbols: [fast, balanced, accurate]}
    default: balanced
    inputBinding: {prefix: --preset, position: 4}
  model:
    type: {type: enum, symbols: [translation, rigid, similarity, affine, local]}
    default: local
    inputBinding: {prefix: --model, position: 4}
  date:
    type: string
    default: ""
    label: date of the results in seconds since 1970, for the same bytes from run to run; empty is now
  extra: {type: "string[]?", label: further options of `register align`, inputBinding: {position: 5}}
outputs:
  aligned: {type: File, outputBinding: {glob: [results/aligned.tif, results/aligned.ome.tif, results/aligned.png]}}
  transform: {type: File, format: iana:application/json, outputBinding: {glob: results/transform.json}}
  overlay: {type: File, outputBinding: {glob: results/overlay.png}}
  report: {type: File?, outputBinding: {glob: results/report.html}}
permanentFailCodes: [1, 2, 3]
$namespaces: {iana: "https://www.iana.org/assignments/media-types/"}
