process REGISTER_ALIGN {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/register-cli:0.2.0--0' :
        'quay.io/biocontainers/register-cli:0.2.0--0' }"

    input:
    tuple val(meta), path(fixed, stageAs: 'fixed/*'), path(moving, stageAs: 'moving/*')
    val keep_failed

    output:
    tuple val(meta), path("${prefix}/aligned.*")     , emit: aligned
    tuple val(meta), path("${prefix}/transform.json"), emit: transform
    tuple val(meta), path("${prefix}/overlay.png")   , emit: overlay
    tuple val(meta), path("${prefix}/report.html")   , emit: report, optional: true
    tuple val("${task.process}"), val('register'), eval("register --version | sed 's/^register //'"), topic: versions, emit: versions_register

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def kept = keep_failed ? '|| [ $? -eq 3 ]' : ''
    prefix   = task.ext.prefix ?: "${meta.id}"
    """
    register align \\
        ${args} \\
        --threads ${task.cpus} \\
        --quiet \\
        --output ${prefix} \\
        ${fixed} \\
        ${moving} ${kept}
    """

    stub:
    prefix   = task.ext.prefix ?: "${meta.id}"
    """
    mkdir ${prefix}
    touch ${prefix}/aligned.tif ${prefix}/transform.json ${prefix}/overlay.png ${prefix}/report.html
    """
}
